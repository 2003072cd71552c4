import { connect as connectTcp, isIP, type Socket } from 'node:net'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import type { Clock } from '../runtime/clock.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { ServesConfig } from './files-config.ts'

/** What we show when we are asked: PEM. */
export interface OwnCertificate { readonly cert: string, readonly key: string }

const patienceMs = 5_000
/** Int32 length and the code 1234.5679 (PostgreSQL's protocol, SSLRequest). */
const sslRequest = Buffer.from([0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f])

/**
 * The certificate that a server shows to a new connection. Nothing is verified: whoever shows the very certificate that was written is the
 * program meant, and of anybody else only that it is another one is told.
 * @returns DER of the leaf
 * @throws {SpiffeError} `svid_not_served` when nobody answers, or not with a certificate
 */
export async function readServedCertificate (
  { host, port, protocol, serverName }: Pick<ServesConfig, 'host' | 'port' | 'protocol' | 'serverName'>,
  own: OwnCertificate | undefined, clock: Clock, signal: AbortSignal
): Promise<Buffer> {
  signal.throwIfAborted()
  // The outermost one, which takes what is below it along: Node crashes when that is destroyed under a TLS socket.
  const plain = connectTcp({ host, port }).on('error', () => {})
  let socket: Socket = plain
  const rest = new AbortController()
  const destroy = (reason: Error) => { socket.destroy(reason) }
  const stop = () => destroy(signal.reason as Error)
  signal.addEventListener('abort', stop, { once: true })
  clock.sleep(patienceMs, rest.signal).then(() => destroy(new Error(`no handshake within ${patienceMs} ms`)), () => {})
  try {
    await event(plain, 'connect')
    if (protocol === 'postgres') await askForTls(plain)
    const secure = connectTls({
      socket: plain, rejectUnauthorized: false, ...own,
      ...serverName === undefined ? isIP(host) === 0 ? { servername: host } : {} : { servername: serverName }
    })
    socket = secure
    await event(secure, 'secureConnect')
    return leafOf(secure)
  } catch (error) {
    signal.throwIfAborted()
    if (error instanceof SpiffeError) throw error
    throw new SpiffeError('svid_not_served', `${host}:${port} does not answer with TLS: ${(error as Error).message}`, { cause: error })
  } finally {
    signal.removeEventListener('abort', stop)
    rest.abort()
    socket.on('error', () => {}).destroy()
  }
}

async function askForTls (socket: Socket): Promise<void> {
  socket.write(sslRequest)
  const answer = await new Promise<Buffer>((resolve, reject) => {
    socket.once('data', resolve).once('error', reject).once('close', () => reject(new Error('the connection was closed')))
  })
  // From here on TLS reads, and nobody else.
  socket.pause()
  socket.removeAllListeners('data')
  if (answer.length === 1 && answer.toString('latin1') === 'S') return
  throw new SpiffeError('svid_not_served', 'PostgreSQL answers that it has no TLS: is ssl = on in its configuration?')
}

function event (socket: Socket, name: 'connect' | 'secureConnect'): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once(name, resolve).once('error', reject).once('close', () => reject(new Error('the connection was closed')))
  })
}

function leafOf (socket: TLSSocket): Buffer {
  const raw = (socket.getPeerX509Certificate() as { raw?: Buffer } | undefined)?.raw
  if (raw === undefined) throw new SpiffeError('svid_not_served', 'the server shows no certificate')
  return raw
}
