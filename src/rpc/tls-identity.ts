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

/** What an operator demands of connections, of either side. */
export interface TlsDemands {
  /** No key exchange that a quantum computer could undo later (SPIRE's `require_pq_kem`): TLS 1.3 with ML-KEM. */
  readonly requirePqKem?: boolean | undefined
}

const withMlKem = { minVersion: 'TLSv1.3', ecdhCurve: 'X25519MLKEM768:SecP256r1MLKEM768:SecP384r1MLKEM1024' } as const

/** To be spread behind what is asked for otherwise. */
export function demandedOptions ({ requirePqKem = false }: TlsDemands): Pick<SecureContextOptions, 'minVersion' | 'ecdhCurve'> {
  return requirePqKem ? withMlKem : {}
}

/** `ca` is empty on purpose: the public web's roots have no say here, and loading them is slow. */
export function contextOptions (identity: TlsIdentity | undefined, demands: TlsDemands = {}): SecureContextOptions {
  const base: SecureContextOptions = { ca: [], minVersion: tlsPolicy.minVersion, secureOptions, ...demandedOptions(demands) }
  return identity === undefined ? base : {
    ...base,
    cert: identity.chain.map(certificate => encodePem('CERTIFICATE', certificate)).join(''),
    key: encodePem('PRIVATE KEY', identity.privateKey)
  }
}

export function secureContextOf (identity: TlsIdentity | undefined, demands: TlsDemands = {}): SecureContext {
  return createSecureContext(contextOptions(identity, demands))
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
