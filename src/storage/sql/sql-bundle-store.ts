import { sql, type Kysely, type Transaction } from 'kysely'
import type { Clock } from '../../runtime/clock.ts'
import type { Bundle } from '../../spiffe/bundle.ts'
import type { Entry } from '../../spiffe/entry.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { BundleDeleteMode, BundlePage, BundleRemoval, BundleStore } from '../bundle-store.ts'
import type { PageRequest } from '../page.ts'
import { decodeBundle, encodeBundle } from './bundle-rows.ts'
import { differs } from './differs.ts'
import { decodeEntry } from './entry-rows.ts'
import { readPage } from './read-pages.ts'
import type { ChangeSet } from './change-set.ts'
import type { Schema } from './schema.ts'
import type { SqlDatabase } from './sql-database.ts'

export class SqlBundleStore implements BundleStore {
  readonly #database: SqlDatabase
  readonly #clock: Clock

  constructor (database: SqlDatabase, clock: Clock) {
    this.#database = database
    this.#clock = clock
  }

  async get (trustDomain: TrustDomain): Promise<Bundle | undefined> {
    const row = await this.#database.read(db =>
      db.selectFrom('bundles').selectAll().where('trust_domain', '=', trustDomain).executeTakeFirst())
    return row === undefined ? undefined : decodeBundle(row)
  }

  async list (page: PageRequest, keep?: (trustDomain: TrustDomain) => boolean): Promise<BundlePage> {
    const { rows, nextPageToken } = await readPage(page, (after, limit) => this.#database.read(db =>
      db.selectFrom('bundles').selectAll().where('row_id', '>', after).orderBy('row_id').limit(limit).execute()),
    keep === undefined ? undefined : row => keep(row.trust_domain as TrustDomain))
    return { bundles: rows.map(decodeBundle), nextPageToken }
  }

  async count (keep?: (trustDomain: TrustDomain) => boolean): Promise<number> {
    if (keep !== undefined) {
      const rows = await this.#database.read(db => db.selectFrom('bundles').select('trust_domain').execute())
      return rows.filter(({ trust_domain: domain }) => keep(domain as TrustDomain)).length
    }
    const { count } = await this.#database.read(db =>
      db.selectFrom('bundles').select(eb => eb.fn.countAll<number>().as('count')).executeTakeFirstOrThrow())
    return count
  }

  async create (bundle: Bundle): Promise<Bundle> {
    const row = await this.#database.change(this.#clock.now(), async (trx, changes) => {
      const row = await trx.insertInto('bundles').values(encodeBundle(bundle))
        .onConflict(conflict => conflict.column('trust_domain').doNothing()).returningAll().executeTakeFirst()
      if (row !== undefined) changes.bundle(bundle)
      return row
    })
    if (row === undefined) throw new SpiffeError('bundle_exists', 'bundle already exists', { details: { trustDomain: bundle.trustDomain } })
    return decodeBundle(row)
  }

  async set (bundle: Bundle): Promise<Bundle> {
    return this.update(bundle.trustDomain, () => bundle)
  }

  async update (trustDomain: TrustDomain, change: (current: Bundle | undefined) => Bundle): Promise<Bundle> {
    return this.#database.change(this.#clock.now(), (trx, changes) =>
      updateBundle(trx, trustDomain, change, { database: this.#database, changes }))
  }

  async delete (trustDomain: TrustDomain, mode: BundleDeleteMode): Promise<BundleRemoval> {
    return this.#database.change(this.#clock.now(), async (trx, changes) => {
      const before = await lockBundle(trx, trustDomain, this.#database)
      if (before === undefined) throw new SpiffeError('bundle_not_found', 'bundle not found', { details: { trustDomain } })
      if (mode === 'restrict') await checkUnused(trx, trustDomain)
      const updatedEntries = mode === 'dissociate' ? await dissociate(trx, trustDomain) : []
      const deletedEntries = mode === 'delete' ? await deleteFederated(trx, trustDomain) : []
      await trx.deleteFrom('bundles').where('row_id', '=', before.row_id).execute()
      changes.bundle({ trustDomain })
      changes.entries([...updatedEntries, ...deletedEntries])
      return { bundle: decodeBundle(before), updatedEntries, deletedEntries }
    })
  }
}

interface BundleWriting { readonly database: Pick<SqlDatabase, 'locked'>, readonly changes: ChangeSet }

/** Reads, changes and writes within a transaction. A change that gives back its argument, or its equal, writes nothing. */
export async function updateBundle (
  trx: Transaction<Schema>, trustDomain: TrustDomain, change: (current: Bundle | undefined) => Bundle, { database, changes }: BundleWriting
): Promise<Bundle> {
  const before = await lockBundle(trx, trustDomain, database)
  const current = before === undefined ? undefined : decodeBundle(before)
  const changed = change(current)
  if (changed === current) return changed
  const columns = encodeBundle({ ...changed, trustDomain })
  if (before !== undefined && !differs(before, columns)) return decodeBundle(before)
  // Where two writers both find no row, the slower one meets a unique key and begins again.
  const row = before === undefined
    ? await trx.insertInto('bundles').values(columns).returningAll().executeTakeFirstOrThrow()
    : await trx.updateTable('bundles').set(columns).where('row_id', '=', before.row_id).returningAll().executeTakeFirstOrThrow()
  changes.bundle({ trustDomain })
  return decodeBundle(row)
}

async function lockBundle (trx: Kysely<Schema>, trustDomain: TrustDomain, database: Pick<SqlDatabase, 'locked'>) {
  return await database.locked(trx.selectFrom('bundles').selectAll().where('trust_domain', '=', trustDomain)).executeTakeFirst()
}

/** The wording is that of SPIRE. */
async function checkUnused (trx: Kysely<Schema>, trustDomain: TrustDomain): Promise<void> {
  const { count } = await trx.selectFrom('entry_federations').where('trust_domain', '=', trustDomain)
    .select(eb => eb.fn.countAll<number>().as('count')).executeTakeFirstOrThrow()
  if (count > 0) throw new SpiffeError('bundle_in_use', `cannot delete bundle; federated with ${count} registration entries`)
}

function federatedRows (db: Kysely<Schema>, trustDomain: TrustDomain) {
  return db.selectFrom('entry_federations').select('entry_row').where('trust_domain', '=', trustDomain)
}

async function deleteFederated (trx: Kysely<Schema>, trustDomain: TrustDomain): Promise<readonly Entry[]> {
  const rows = await trx.deleteFrom('entries').where('row_id', 'in', federatedRows(trx, trustDomain)).returningAll().execute()
  return rows.map(decodeEntry)
}

/** One statement for all entries that federate with the same domains. */
async function dissociate (trx: Kysely<Schema>, trustDomain: TrustDomain): Promise<readonly Entry[]> {
  const updated: Entry[] = []
  const lists = await trx.selectFrom('entries').select('federates_with').distinct()
    .where('row_id', 'in', federatedRows(trx, trustDomain)).execute()
  for (const { federates_with: before } of lists) {
    const left = (JSON.parse(before) as string[]).filter(domain => domain !== trustDomain)
    const rows = await trx.updateTable('entries')
      .set({ federates_with: JSON.stringify(left), federation_count: left.length, revision_number: sql`revision_number + 1` })
      .where('row_id', 'in', federatedRows(trx, trustDomain)).where('federates_with', '=', before)
      .returningAll().execute()
    updated.push(...rows.map(decodeEntry))
  }
  await trx.deleteFrom('entry_federations').where('trust_domain', '=', trustDomain).execute()
  return updated
}
