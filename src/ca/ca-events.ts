import type { Took } from '../runtime/took.ts'
import type { AuthorityKind } from './authority-record.ts'

/** What a certificate authority tells those who count. */
export interface CaEvents {
  /** @param count of certificates or tokens */
  readonly signed: (what: 'x509_svid' | 'x509_ca_svid' | 'jwt_svid', count: number) => void
  /** A key manager made the key of an authority. */
  readonly keyMade: (took: Took) => void
  readonly prepared: (kind: AuthorityKind, took: Took) => void
  readonly activated: (kind: AuthorityKind) => void
  /** Something was to be taken out of the bundle, since it had expired. */
  readonly pruned: (took: Took) => void
}
