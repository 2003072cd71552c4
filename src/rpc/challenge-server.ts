import type { Socket } from 'node:net'
import { TLSSocket, type SecureContext } from 'node:tls'

/** RFC 8737 §6.2, as an entry of the list of protocols in a client's hello: its length, then its name. */
const entry = Buffer.from('\x0aacme-tls/1', 'latin1')

/**
 * Whether a TLS client's first words ask for the challenge of ACME's TLS-ALPN-01 (RFC 8737 §3). They stay in the socket's buffer. Who
 * writes the name elsewhere in a hello gets a certificate that nobody believes.
 */
export function asksForChallenge (socket: Socket): boolean {
  const words = socket.read() as Buffer | null
  if (words === null) return false
  socket.unshift(words)
  return words.includes(entry)
}

/** Answers it, and nothing after it. */
export function showChallenge (socket: Socket, secureContext: SecureContext, timeoutMs: number): void {
  const shown = new TLSSocket(socket, { isServer: true, secureContext, ALPNProtocols: ['acme-tls/1'] })
  shown.setTimeout(timeoutMs, () => shown.destroy())
  shown.on('error', () => undefined).once('secure', () => shown.end())
}
