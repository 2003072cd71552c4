import { hash } from 'node:crypto'
import type { Entry, EntryAttributes } from '../../spiffe/entry.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { formatSelector, normalizeSelectors } from '../../spiffe/selector.ts'
import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import { isStorableText } from '../../spiffe/storable-text.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { EntryRow, EntryRowDraft } from './schema.ts'
import { decodeSelectors, encodeSelectors } from './selector-columns.ts'
import { SharedTexts } from './shared-texts.ts'

/** What an entry is made of; the rest is for the database to search by. */
export const entryColumns = [
  'row_id', 'id', 'spiffe_id', 'parent_id', 'selectors', 'federates_with', 'dns_names', 'x509_svid_ttl', 'jwt_svid_ttl', 'admin',
  'downstream', 'store_svid', 'hint', 'expires_at', 'attributes', 'revision_number', 'created_at'
] as const

/** The entry as the store keeps it: selectors normalised, trust domains sorted, no repeats. @throws {SpiffeError} `entry_malformed` */
export function canonicalEntry (entry: Entry): Entry {
  if (entry.selectors.length === 0) throw new SpiffeError('entry_malformed', 'selector list is empty')
  if (!isStorableText(entry.id + entry.hint)) throw new SpiffeError('entry_malformed', 'id or hint contains U+0000 or a lone surrogate')
  return { ...entry, selectors: normalizeSelectors(entry.selectors), federatesWith: [...new Set(entry.federatesWith)].toSorted() }
}

/** @param entry canonical */
export function encodeEntry (entry: Entry): EntryRowDraft {
  return {
    id: entry.id,
    spiffe_id: entry.spiffeId,
    parent_id: entry.parentId,
    similarity: similarityOf(entry),
    selectors: encodeSelectors(entry.selectors),
    selector_count: entry.selectors.length,
    federates_with: JSON.stringify(entry.federatesWith),
    federation_count: entry.federatesWith.length,
    dns_names: JSON.stringify(entry.dnsNames),
    x509_svid_ttl: entry.x509SvidTtlSeconds,
    jwt_svid_ttl: entry.jwtSvidTtlSeconds,
    admin: Number(entry.admin),
    downstream: Number(entry.downstream),
    store_svid: Number(entry.storeSvid),
    hint: entry.hint,
    expires_at: entry.expiresAtSeconds,
    attributes: JSON.stringify(entry.additionalAttributes),
    revision_number: entry.revisionNumber,
    created_at: entry.createdAtSeconds
  }
}

export function decodeEntry (row: Pick<EntryRow, typeof entryColumns[number]>): Entry {
  return {
    id: row.id,
    spiffeId: row.spiffe_id as SpiffeId,
    parentId: parents.of(row.parent_id) as SpiffeId,
    selectors: decodeSelectors(row.selectors),
    x509SvidTtlSeconds: row.x509_svid_ttl,
    jwtSvidTtlSeconds: row.jwt_svid_ttl,
    federatesWith: decodeList(row.federates_with) as readonly TrustDomain[],
    dnsNames: decodeList(row.dns_names),
    admin: row.admin !== 0,
    downstream: row.downstream !== 0,
    storeSvid: row.store_svid !== 0,
    hint: row.hint,
    expiresAtSeconds: row.expires_at,
    additionalAttributes: decodeAttributes(row.attributes),
    revisionNumber: row.revision_number,
    createdAtSeconds: row.created_at
  }
}

const parents = new SharedTexts()
const none: readonly string[] = Object.freeze([])
/** Two flags: few texts, the same objects for all entries. */
const attributes = new Map<string, EntryAttributes>()

function decodeList (text: string): readonly string[] {
  return text === '[]' ? none : JSON.parse(text) as string[]
}

function decodeAttributes (text: string): EntryAttributes {
  const known = attributes.get(text)
  if (known !== undefined) return known
  const decoded = Object.freeze(JSON.parse(text) as EntryAttributes)
  if (attributes.size < 16) attributes.set(text, decoded)
  return decoded
}

/** Equal for two entries exactly when SPIFFE ID, parent and selector set are (spire-surface §3.2). @param entry canonical */
export function similarityOf (entry: Pick<Entry, 'spiffeId' | 'parentId' | 'selectors'>): Buffer {
  return hash('sha256', JSON.stringify([entry.spiffeId, entry.parentId, ...entry.selectors.map(formatSelector)]), 'buffer')
}

export function entryNotFound (id: string): SpiffeError {
  return new SpiffeError('entry_not_found', 'entry not found', { details: { id } })
}
