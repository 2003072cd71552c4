import { constants } from 'node:crypto'
import { createSecureContext, type SecureContext, type SecureContextOptions, type TLSSocket } from 'node:tls'
import { encodePem } from '../x509/pem.ts'

/** An X509-SVID as TLS presents it. */
export interface TlsIdentity {
  /** DER, leaf first, without the root. */
  readonly chain: readonly Uint8Array[]
  /** PKCS#8, DER. Secret. */
  readonly privateKey: Uint8Array
}

/** A resumed session has no intermediates and would skip our checks, so there are no tickets; HTTP/2 forbids renegotiation. */
const secureOptions = constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION
const longestChain = 16

/** Options common to both sides; trust is decided by us after the handshake, per trust domain (TS-08). */
export const tlsPolicy = { minVersion: 'TLSv1.2', secureOptions, rejectUnauthorized: false, ALPNProtocols: ['h2'] } as const

/** `ca` is empty on purpose: the public web's roots have no say here, and loading them is slow. */
export function contextOptions (identity: TlsIdentity | undefined): SecureContextOptions {
  const base: SecureContextOptions = { ca: [], minVersion: tlsPolicy.minVersion, secureOptions }
  return identity === undefined ? base : {
    ...base,
    cert: identity.chain.map(certificate => encodePem('CERTIFICATE', certificate)).join(''),
    key: encodePem('PRIVATE KEY', identity.privateKey)
  }
}

export function secureContextOf (identity: TlsIdentity | undefined): SecureContext {
  return createSecureContext(contextOptions(identity))
}

/** What the peer presented, DER, leaf first; empty when it showed nothing. */
export function peerChain (socket: TLSSocket): Uint8Array[] {
  const chain: Uint8Array[] = []
  const leaf = socket.getPeerX509Certificate()
  for (let at = leaf; at !== undefined && chain.length < longestChain; at = at.issuerCertificate) {
    // Node links a self-signed certificate to itself.
    if (chain.some(seen => Buffer.compare(seen, at.raw) === 0)) break
    chain.push(new Uint8Array(at.raw))
  }
  return chain
}
