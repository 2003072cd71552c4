/** The names by which a configuration may ask without knowing any SPIFFE ID (spire-surface §4.1). */
export interface SdsAliases {
  /** The first identity's certificate. */
  readonly svid: string
  /** The own trust domain's bundle. */
  readonly bundle: string
  /** Own and federated bundles together; SPIFFE validator only. */
  readonly allBundles: string
  /** PEM file in the proxy's own file system: what `systemRootsName` stands for. */
  readonly systemRootsFile?: string | undefined
}

/** Istio's name for the roots by which a proxy checks servers outside the mesh. */
export const systemRootsName = 'file-root:system'

export const defaultAliases: SdsAliases = { svid: 'default', bundle: 'ROOTCA', allBundles: 'ALL' }
