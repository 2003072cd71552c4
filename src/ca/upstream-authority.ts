import type { JwtAuthority, X509Authority } from '../spiffe/bundle.ts'

/**
 * Signs this trust domain's CA, so that its bundle holds the upstream's roots instead of a root of its own. Calls throw `SpiffeError`s:
 * `upstream_unavailable` when it did not answer, `upstream_refused` when it would not, `upstream_invalid` for files or answers that are of
 * no use. What it gives is checked by who asked, whatever the plugin.
 */
export interface UpstreamAuthority extends AsyncDisposable {
  mintX509Ca (order: X509CaOrder, signal: AbortSignal): Promise<MintedX509Ca>
  /**
   * What the upstream trusts: now, and after each change. Faults along the way are logged and the last good state stays; it ends when the
   * signal aborts. Absent where roots come with what is minted and no other way.
   */
  watch? (signal: AbortSignal): AsyncIterable<UpstreamTrust>
  /**
   * Has a JWT key of this trust domain published to all that the upstream serves. Absent where the upstream has no such thing.
   * @returns all the JWT keys that the upstream knows now
   */
  publishJwtKey? (key: JwtAuthority, signal: AbortSignal): Promise<readonly JwtAuthority[]>
}

export interface X509CaOrder {
  /** PKCS#10, DER, with the trust domain's SPIFFE ID as its one URI SAN. */
  readonly csr: Uint8Array
  /** How long the CA should live; the upstream may cut it. */
  readonly ttlSeconds: number
}

export interface MintedX509Ca {
  /** DER: the new CA first, then what stands between it and a root, the root left out. */
  readonly chain: readonly Uint8Array[]
  /** What the trust domain must trust so that the chain verifies. */
  readonly roots: readonly X509Authority[]
}

export interface UpstreamTrust {
  readonly x509Authorities: readonly X509Authority[]
  readonly jwtAuthorities: readonly JwtAuthority[]
  /** Whether what came from the upstream before and is not named here is not to be trusted any more. */
  readonly complete: boolean
}
