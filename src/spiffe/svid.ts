import type { Bundle } from './bundle.ts'
import type { SpiffeId } from './spiffe-id.ts'
import type { TrustDomain } from './trust-domain.ts'

/** An X509-SVID with its private key, as handed to a workload. */
export interface X509Svid {
  readonly id: SpiffeId
  /** DER, leaf first, the self-signed root left out. */
  readonly chain: readonly Uint8Array[]
  /** Unencrypted PKCS#8, DER. Secret. */
  readonly privateKey: Uint8Array
  readonly notBefore: Date
  readonly notAfter: Date
  /** Empty when the operator set none. */
  readonly hint: string
}

export interface JwtSvid {
  readonly id: SpiffeId
  /** Compact JWS. Secret: a bearer token. */
  readonly token: string
  readonly issuedAt: Date
  readonly expiresAt: Date
  readonly hint: string
}

/** Everything one workload may see, at one revision of its node's state. The default identity is `svids[0]` (WLAPI-35). */
export interface WorkloadIdentity {
  /** In the order of their entries' ids; empty when no entry matches. */
  readonly svids: readonly X509Svid[]
  readonly bundle: Bundle
  /** Only the foreign domains this workload's entries federate with. */
  readonly federatedBundles: ReadonlyMap<TrustDomain, Bundle>
  /** There are entries, but no SVID for any of them is valid at present: the server cannot be reached, or the clock jumped. */
  readonly awaitsSvids?: boolean | undefined
  /** Grows with each change on this node. */
  readonly revision: number
}
