/** The names by which a configuration may ask without knowing any SPIFFE ID (spire-surface §4.1). */
export interface SdsAliases {
  /** The first identity's certificate. */
  readonly svid: string
  /** The own trust domain's bundle. */
  readonly bundle: string
  /** Own and federated bundles together; SPIFFE validator only. */
  readonly allBundles: string
}

export const defaultAliases: SdsAliases = { svid: 'default', bundle: 'ROOTCA', allBundles: 'ALL' }
