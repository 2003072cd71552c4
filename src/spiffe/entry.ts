import type { Selector } from './selector.ts'
import type { SpiffeId } from './spiffe-id.ts'
import type { TrustDomain } from './trust-domain.ts'

/** A registration entry: which workload, under which parent, gets which SPIFFE ID. Fields as in `spire-surface.md` §3.1. */
export interface Entry {
  /** 1 to 255 of `A-Z a-z 0-9 - . _`. */
  readonly id: string
  readonly spiffeId: SpiffeId
  readonly parentId: SpiffeId
  /** At least one; normalised (sorted, no repeats). */
  readonly selectors: readonly Selector[]
  /** 0 means the server's default. */
  readonly x509SvidTtlSeconds: number
  readonly jwtSvidTtlSeconds: number
  readonly federatesWith: readonly TrustDomain[]
  readonly dnsNames: readonly string[]
  readonly admin: boolean
  readonly downstream: boolean
  readonly storeSvid: boolean
  readonly hint: string
  /** Unix seconds; 0 means never. */
  readonly expiresAtSeconds: number
  readonly additionalAttributes: EntryAttributes
  readonly revisionNumber: number
  /** Unix seconds. */
  readonly createdAtSeconds: number
}

export interface EntryAttributes {
  readonly disableX509SvidPrefetch: boolean
  readonly jwtSvidIncludeJti: boolean
}

/** What a caller decides about a new entry; the store adds id (if empty), revision and creation time. */
export type EntryDraft = Omit<Entry, 'revisionNumber' | 'createdAtSeconds'>

/** What an entry says that says no more than who is who: the server's lifetimes, and nothing besides. */
export const plainEntry: Omit<EntryDraft, 'spiffeId' | 'parentId' | 'selectors'> = {
  id: '',
  x509SvidTtlSeconds: 0,
  jwtSvidTtlSeconds: 0,
  federatesWith: [],
  dnsNames: [],
  admin: false,
  downstream: false,
  storeSvid: false,
  hint: '',
  expiresAtSeconds: 0,
  additionalAttributes: { disableX509SvidPrefetch: false, jwtSvidIncludeJti: false }
}
