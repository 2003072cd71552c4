import { connect, createSecureContext, type SecureContextOptions } from 'node:tls'

/** What a client meets that offers no more than these options: `TLSv1.3 X25519`, or the code of the refusal. */
export function agreedGroup (address: string, options: SecureContextOptions = {}): Promise<string> {
  const [host = '', port] = address.split(':')
  return new Promise(resolve => {
    const secureContext = createSecureContext(options)
    const ALPNProtocols = ['h2', 'http/1.1']
    const socket = connect({ host, port: Number(port), rejectUnauthorized: false, ALPNProtocols, secureContext }, () => {
      const { name } = socket.getEphemeralKeyInfo() as { readonly name?: string }
      resolve(`${socket.getProtocol()} ${name}`)
      socket.destroy()
    })
    socket.on('error', ({ code }: NodeJS.ErrnoException) => resolve(String(code)))
  })
}

/** What `require_pq_kem` makes of clients: by what they offer, what they get of who demands it. */
export const pqAgreements: ReadonlyArray<readonly [what: string, offer: SecureContextOptions, answer: string | RegExp]> = [
  ['by default', {}, 'TLSv1.3 X25519MLKEM768'],
  ['that begins with another group', { ecdhCurve: 'X25519:X25519MLKEM768' }, 'TLSv1.3 X25519MLKEM768'],
  ['of P-256 with ML-KEM', { ecdhCurve: 'SecP256r1MLKEM768' }, 'TLSv1.3 SecP256r1MLKEM768'],
  ['of P-384 with ML-KEM', { ecdhCurve: 'SecP384r1MLKEM1024' }, 'TLSv1.3 SecP384r1MLKEM1024'],
  ['without ML-KEM', { ecdhCurve: 'X25519:P-256:P-384' }, /ALERT_HANDSHAKE_FAILURE/],
  ['of TLS 1.2', { maxVersion: 'TLSv1.2' }, /ALERT_PROTOCOL_VERSION/]
]
