import { openUnixChannel } from '../rpc/channel.ts'
import type { Clock } from '../runtime/clock.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import { workloadService } from '../wire/generated/workload.ts'
import type { KeySource } from './key-source.ts'
import { readJwks } from './read-jwks.ts'

export interface WorkloadKeySourceOptions {
  /** The agent's public socket. */
  readonly socketPath: string
  /** Whose keys of all that the agent hands out. */
  readonly trustDomain: TrustDomain
  /** How long one stream is followed before the agent is asked anew, which shows that it still answers. */
  readonly pollMs: number
  readonly clock: Clock
}

const answerTimeoutMs = 10_000
const largestBundles = 16 * 1024 * 1024
/** A browser that was tricked into calling cannot send it (WLE-04). */
const metadata = { 'workload.spiffe.io': 'true' }
const turnIsOver = new Error('the agent is asked anew')

/**
 * Follows the JWT bundles that an agent gives to this process, which needs an entry for that, unless the agent has
 * `allow_unauthenticated_verifiers` (Workload API §6.2.2). A change is there at once; when a key ends, the agent does not say.
 */
export function workloadKeySource (options: WorkloadKeySourceOptions): KeySource {
  return {
    name: 'workload_api',
    async * follow (signal) {
      await using channel = openUnixChannel(options.socketPath, { maxMessageBytes: largestBundles, maxBackoffMs: 1_000 })
      const client = channel.client(workloadService)
      for (;;) yield * followTurn(options, signalled => client.fetchJWTBundles({}, { signal: signalled, metadata }), signal)
    }
  }
}

interface Answer { readonly bundles: Readonly<Record<string, Uint8Array>> }

/** One stream, for as long as a poll lasts. */
async function * followTurn (
  { trustDomain, pollMs, clock }: WorkloadKeySourceOptions, open: (signal: AbortSignal) => AsyncIterable<Answer>, signal: AbortSignal
) {
  const turn = new AbortController()
  const stop = () => turn.abort(signal.reason)
  signal.addEventListener('abort', stop, { once: true })
  if (signal.aborted) stop()
  const silent = new SpiffeError('server_unreachable', `the agent has not answered for ${answerTimeoutMs} ms`)
  let timer = endTurnIn(turn, clock, answerTimeoutMs, silent)
  let answered = false
  try {
    for await (const { bundles } of open(turn.signal)) {
      const name = `spiffe://${trustDomain}`
      const document = Object.hasOwn(bundles, name) ? bundles[name] : undefined
      if (document === undefined) throw new SpiffeError('bundle_not_found', `the agent gives no bundle of ${trustDomain}`)
      if (!answered) {
        answered = true
        timer.abort()
        timer = endTurnIn(turn, clock, pollMs, turnIsOver)
      }
      yield readJwks(document)
    }
    throw new SpiffeError('server_unreachable', 'the agent has ended the stream')
  } catch (error) {
    signal.throwIfAborted()
    if (turn.signal.reason !== turnIsOver) throw turn.signal.aborted ? turn.signal.reason : error
  } finally {
    signal.removeEventListener('abort', stop)
    timer.abort()
    turn.abort(turnIsOver)
  }
}

function endTurnIn (turn: AbortController, clock: Clock, ms: number, reason: Error): AbortController {
  const timer = new AbortController()
  clock.sleep(ms, timer.signal).then(() => turn.abort(reason), () => {})
  return timer
}
