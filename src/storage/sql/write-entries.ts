import type { Kysely } from 'kysely'
import type { Entry } from '../../spiffe/entry.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { trustDomainId, type SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import { chunks, rowsPerInsert } from './chunks.ts'
import { decodeEntry, encodeEntry } from './entry-rows.ts'
import type { Schema } from './schema.ts'
import { selectorKey } from './selector-columns.ts'
import { entrySelectorSet, setCondition } from './set-condition.ts'

interface Placed { readonly row: number, readonly entry: Entry }

/** @param entries canonical; none of them similar to a stored one, no id taken */
export async function insertEntries (trx: Kysely<Schema>, entries: readonly Entry[]): Promise<void> {
  for (const chunk of chunks(entries, rowsPerInsert)) {
    const rows = await trx.insertInto('entries').values(chunk.map(encodeEntry)).returning(['id', 'row_id']).execute()
    const rowOf = new Map(rows.map(row => [row.id, row.row_id]))
    const placed = chunk.map(entry => ({ row: rowOf.get(entry.id) as number, entry }))
    await insertSelectors(trx, placed)
    await insertFederations(trx, placed)
  }
}

/** @param entry canonical, what the row is to become */
export async function replaceEntry (trx: Kysely<Schema>, row: number, before: Entry, entry: Entry): Promise<void> {
  await trx.updateTable('entries').set(encodeEntry(entry)).where('row_id', '=', row).execute()
  await trx.deleteFrom('entry_selectors').where('entry_row', '=', row).execute()
  await insertSelectors(trx, [{ row, entry }])
  if (before.federatesWith.length > 0) await trx.deleteFrom('entry_federations').where('entry_row', '=', row).execute()
  await insertFederations(trx, [{ row, entry }])
}

async function insertSelectors (trx: Kysely<Schema>, placed: readonly Placed[]): Promise<void> {
  const members = placed.flatMap(({ row, entry }) =>
    entry.selectors.map(selector => ({ entry_row: row, selector_key: selectorKey(selector) })))
  for (const chunk of chunks(members, rowsPerInsert)) await trx.insertInto('entry_selectors').values(chunk).execute()
}

async function insertFederations (trx: Kysely<Schema>, placed: readonly Placed[]): Promise<void> {
  const members = placed.flatMap(({ row, entry }) => entry.federatesWith.map(domain => ({ entry_row: row, trust_domain: domain })))
  for (const chunk of chunks(members, rowsPerInsert)) await trx.insertInto('entry_federations').values(chunk).execute()
}

/** Which of these trust domains have a bundle. */
export async function knownDomains (trx: Kysely<Schema>, domains: readonly TrustDomain[]): Promise<ReadonlySet<string>> {
  const known = new Set<string>()
  for (const chunk of chunks([...new Set(domains)], rowsPerInsert)) {
    const rows = await trx.selectFrom('bundles').select('trust_domain').where('trust_domain', 'in', chunk).execute()
    for (const row of rows) known.add(row.trust_domain)
  }
  return known
}

/** The wording is that of SPIRE. @throws {SpiffeError} `federated_bundle_unknown` */
export function checkDomains (entry: Entry, known: ReadonlySet<string>): void {
  const unknown = entry.federatesWith.find(domain => !known.has(domain))
  if (unknown === undefined) return
  throw new SpiffeError('federated_bundle_unknown', `unable to find federated bundle "${trustDomainId(unknown)}"`)
}

/** Removes what `CreateJoinToken` made for an agent: entries whose parent and whose only selector name it (spire-surface §1.3). */
export async function deleteJoinTokenAliases (trx: Kysely<Schema>, agentId: SpiffeId): Promise<readonly Entry[]> {
  const rows = await trx.deleteFrom('entries').where('parent_id', '=', agentId)
    .where(setCondition(entrySelectorSet, 'exact', [selectorKey({ type: 'spiffe_id', value: agentId })]))
    .returningAll().execute()
  return rows.map(decodeEntry)
}
