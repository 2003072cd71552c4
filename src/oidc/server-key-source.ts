import { openUnixChannel } from '../rpc/channel.ts'
import type { Clock } from '../runtime/clock.ts'
import { decodeBundle } from '../wire/bundle-codec.ts'
import { bundleService } from '../wire/generated/server-bundle.ts'
import type { KeySource } from './key-source.ts'

export interface ServerKeySourceOptions {
  /** The server's admin socket; SPIRE's server has the same API there. */
  readonly socketPath: string
  readonly pollMs: number
  readonly clock: Clock
}

const answerTimeoutMs = 10_000
const largestBundle = 4 * 1024 * 1024

/** Asks a server for its bundle, every so often (spire-surface §1.4: GetBundle is open to everybody). Keys come with their expiry. */
export function serverKeySource ({ socketPath, pollMs, clock }: ServerKeySourceOptions): KeySource {
  return {
    name: 'server_api',
    async * follow (signal) {
      await using channel = openUnixChannel(socketPath, { maxMessageBytes: largestBundle, maxBackoffMs: 1_000 })
      const client = channel.client(bundleService)
      for (;;) {
        const message = await client.getBundle({ outputMask: { jwtAuthorities: true } }, { signal, timeoutMs: answerTimeoutMs })
        yield decodeBundle(message).jwtAuthorities
        await clock.sleep(pollMs, signal)
      }
    }
  }
}
