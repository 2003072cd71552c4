import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { closeSync } from 'node:fs'
import { unixAddress } from '../../src/rpc/telemetry/datagram-link.ts'
import { openTelemetry, type Telemetry, type TelemetryDeps } from '../../src/rpc/telemetry/telemetry.ts'
import { type TelemetryConfig, usualTelemetry } from '../../src/rpc/telemetry/telemetry-config.ts'
import { loadCLibrary } from '../../src/runtime/c-library.ts'
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
export interface Receiver extends LineReceiver {
  readonly to: { readonly host: string, readonly port: number }
  /** As they came. */
  readonly datagrams: readonly string[]
}

export interface LineReceiver extends AsyncDisposable {
  /** Of `telemetry`. */
  readonly address: string
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
  const to = { host: '127.0.0.1', port: socket.address().port }
  return {
    to, address: `${to.host}:${to.port}`, datagrams, ...linesOf(() => datagrams),
    async [Symbol.asyncDispose] () {
      const closed = once(socket, 'close')
      socket.close()
      await closed
    }
  }
}

function linesOf (datagrams: () => readonly string[]): Pick<LineReceiver, 'lines' | 'has'> {
  const lines = () => datagrams().flatMap(datagram => datagram.split('\n').filter(line => line !== ''))
  const is = (line: string, wanted: string | RegExp) => typeof wanted === 'string' ? line === wanted : wanted.test(line)
  return { lines, has: wanted => eventually(String(wanted), () => lines().some(line => is(line, wanted))) }
}

/** A Unix socket for datagrams, as Datadog's agent has one. It takes what is there when its lines are looked at. */
export function openUnixReceiver (path: string): LineReceiver {
  const library = loadCLibrary()
  type Call = (...args: readonly unknown[]) => number
  const socket = library.func('int socket(int, int, int)') as Call
  const bind = library.func('int bind(int, const uint8_t *, uint32_t)') as Call
  const recv = library.func('long recv(int, _Out_ uint8_t *, size_t, int)') as Call
  const fd = socket(1, 2, 0)
  const address = unixAddress(path)
  if (fd < 0 || bind(fd, address, address.length) !== 0) throw new Error(`${path}: errno ${library.errno()}`)
  const [datagrams, buffer, dontWait]: [string[], Uint8Array, number] = [[], new Uint8Array(65_536), 0x40]
  const taken = () => {
    for (let bytes; (bytes = recv(fd, buffer, buffer.length, dontWait)) > 0;) datagrams.push(Buffer.from(buffer).toString('utf8', 0, bytes))
    return datagrams
  }
  return { address: `unix://${path}`, ...linesOf(taken), async [Symbol.asyncDispose] () { closeSync(fd) } }
}
