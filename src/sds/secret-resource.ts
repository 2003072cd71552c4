/** One SDS resource, ready to send and shared by all streams that want it. */
export interface SecretResource {
  readonly name: string
  /**
   * Grows from the content, not from a counter, so that it means the same after a restart of the agent. Made from public parts only:
   * a key is named by the certificate it must match.
   */
  readonly version: string
  /** An encoded `envoy.extensions.transport_sockets.tls.v3.Secret`. Secret when it holds a key. */
  readonly value: Uint8Array
  /** When the certificate in it ends; bundles have none. */
  readonly expiresAt: Date | undefined
}

/** What a name means to one caller now. */
export type Found =
  | { readonly kind: 'usable', readonly resource: SecretResource }
  /** The caller may have it, but Envoy must not get it as it is: a bad secret is refused and can end the process. */
  | { readonly kind: 'unusable', readonly name: string, readonly reason: string }
  /** Only an Envoy with the SPIFFE validator can be told. */
  | { readonly kind: 'unsupported', readonly name: string }
  /** What it means is being found out; the view changes when that is known. */
  | { readonly kind: 'pending' }
  /** Unknown, or not this caller's: the two look alike. */
  | { readonly kind: 'absent' }

/** What one caller may have of one type of resource, in one state. */
export interface ResourceView {
  find (name: string, at: Date): Found
  /** What a caller that names nothing gets. */
  readonly allNames: ReadonlySet<string>
}

/** Secrets of one caller; `allNames`: own bundle, federated bundles by name, SVIDs by their order. No aliases, no repeats. */
export interface SecretView extends ResourceView {
  /** `spiffe://td` of the own trust domain. */
  readonly ownBundleName: string
  /** The first identity's SPIFFE ID. */
  readonly defaultSvidName: string | undefined
}
