import type { X509Material } from './x509-material.ts'

/** What the agent has said so far, of which the files are made. */
export interface Material {
  readonly x509: X509Material | undefined
  /** A JWK Set for each trust domain's name. */
  readonly jwtBundles: ReadonlyMap<string, Uint8Array> | undefined
  /** By the name of the file. Secret: bearer tokens. */
  readonly jwtSvids: ReadonlyMap<string, string>
  /** The identity was taken away long enough ago that the files are to go. */
  readonly isRevoked: boolean
}

export const nothingYet: Material = { x509: undefined, jwtBundles: undefined, jwtSvids: new Map(), isRevoked: false }

/** Whether there is anything to write. */
export function isKnown ({ x509, jwtBundles, jwtSvids }: Material): boolean {
  return x509 !== undefined || jwtBundles !== undefined || jwtSvids.size > 0
}
