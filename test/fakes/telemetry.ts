import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { openTelemetry, type Telemetry, type TelemetryDeps } from '../../src/rpc/telemetry/telemetry.ts'
import { type TelemetryConfig, usualTelemetry } from '../../src/rpc/telemetry/telemetry-config.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { ManualClock } from './clock.ts'
import { eventually } from './eventually.ts'

/** Of a server, unless `deps` says otherwise, that goes nowhere. */
export function testTelemetry (config: Partial<TelemetryConfig> = {}, deps: Partial<TelemetryDeps> = {}): Telemetry & AsyncDisposable {
  return openTelemetry({ ...usualTelemetry, ...config }, {
    prefix: 'spire_server', trustDomain: parseTrustDomain('example.org'), beside: undefined, environment: {}, clock: new ManualClock(),
    log: silentLogger, ...deps
  })
}

/** A socket that takes what is sent to it, as a StatsD server's would. */
export interface Receiver extends AsyncDisposable {
  readonly to: { readonly host: string, readonly port: number }
  /** As they came. */
  readonly datagrams: readonly string[]
  lines (): readonly string[]
  /** Waits for a line. */
  has (line: string | RegExp): Promise<void>
}

/** @param port a free one by default */
export async function openReceiver (port = 0): Promise<Receiver> {
  const socket = createSocket({ type: 'udp4', recvBufferSize: 1_048_576 })
  const datagrams: string[] = []
  socket.on('message', datagram => datagrams.push(datagram.toString()))
  socket.bind(port, '127.0.0.1')
  await once(socket, 'listening')
  const lines = () => datagrams.flatMap(datagram => datagram.split('\n').filter(line => line !== ''))
  return {
    to: { host: '127.0.0.1', port: socket.address().port }, datagrams, lines,
    has: wanted => eventually(String(wanted), () => lines().some(line => typeof wanted === 'string' ? line === wanted : wanted.test(line))),
    async [Symbol.asyncDispose] () {
      const closed = once(socket, 'close')
      socket.close()
      await closed
    }
  }
}
