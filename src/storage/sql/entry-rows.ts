import { hash } from 'node:crypto'
import type { Entry, EntryAttributes } from '../../spiffe/entry.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { formatSelector, normalizeSelectors } from '../../spiffe/selector.ts'
import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import { isStorableText } from '../../spiffe/storable-text.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { EntryRow, EntryRowDraft } from './schema.ts'
import { decodeSelectors, encodeSelectors } from './selector-columns.ts'

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

export function decodeEntry (row: EntryRow): Entry {
  return {
    id: row.id,
    spiffeId: row.spiffe_id as SpiffeId,
    parentId: row.parent_id as SpiffeId,
    selectors: decodeSelectors(row.selectors),
    x509SvidTtlSeconds: row.x509_svid_ttl,
    jwtSvidTtlSeconds: row.jwt_svid_ttl,
    federatesWith: JSON.parse(row.federates_with) as TrustDomain[],
    dnsNames: JSON.parse(row.dns_names) as string[],
    admin: row.admin !== 0,
    downstream: row.downstream !== 0,
    storeSvid: row.store_svid !== 0,
    hint: row.hint,
    expiresAtSeconds: row.expires_at,
    additionalAttributes: JSON.parse(row.attributes) as EntryAttributes,
    revisionNumber: row.revision_number,
    createdAtSeconds: row.created_at
  }
}

/** Equal for two entries exactly when SPIFFE ID, parent and selector set are (spire-surface §3.2). @param entry canonical */
export function similarityOf (entry: Pick<Entry, 'spiffeId' | 'parentId' | 'selectors'>): Buffer {
  return hash('sha256', JSON.stringify([entry.spiffeId, entry.parentId, ...entry.selectors.map(formatSelector)]), 'buffer')
}

export function entryNotFound (id: string): SpiffeError {
  return new SpiffeError('entry_not_found', 'entry not found', { details: { id } })
}
