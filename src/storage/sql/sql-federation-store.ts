import type { Transaction } from 'kysely'
import type { Clock } from '../../runtime/clock.ts'
import type { Bundle } from '../../spiffe/bundle.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { FederationRelationship } from '../../spiffe/federation-relationship.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { FederationChange, FederationPage, FederationStore } from '../federation-store.ts'
import type { PageRequest } from '../page.ts'
import type { ChangeSet } from './change-set.ts'
import { differs } from './differs.ts'
import { decodeFederation, encodeFederation } from './federation-rows.ts'
import { readPage } from './read-pages.ts'
import type { Schema } from './schema.ts'
import { updateBundle } from './sql-bundle-store.ts'
import type { SqlDatabase } from './sql-database.ts'

export class SqlFederationStore implements FederationStore {
  readonly #database: SqlDatabase
  readonly #clock: Clock

  constructor (database: SqlDatabase, clock: Clock) {
    this.#database = database
    this.#clock = clock
  }

  create (relationship: FederationRelationship, bundle?: Bundle): Promise<FederationRelationship> {
    return this.#database.change(this.#clock.now(), async (trx, changes) => {
      const row = await trx.insertInto('federation_relationships').values(encodeFederation(relationship))
        .onConflict(conflict => conflict.column('trust_domain').doNothing()).returningAll().executeTakeFirst()
      if (row === undefined) {
        const { trustDomain } = relationship
        throw new SpiffeError('federation_exists', `a relationship with "${trustDomain}" already exists`, { details: { trustDomain } })
      }
      await this.#setBundle(trx, bundle, changes)
      changes.federation(relationship)
      return decodeFederation(row)
    })
  }

  update (trustDomain: TrustDomain, { endpoint, bundle }: FederationChange): Promise<FederationRelationship> {
    return this.#database.change(this.#clock.now(), async (trx, changes) => {
      const row = await this.#lock(trx, trustDomain)
      const before = decodeFederation(row)
      const { url, profile } = { ...before.endpoint, ...endpoint }
      const after = { trustDomain, endpoint: { url, profile } }
      const columns = encodeFederation(after)
      if (differs(row, columns)) {
        await trx.updateTable('federation_relationships').set(columns).where('row_id', '=', row.row_id).execute()
        changes.federation(after)
      }
      await this.#setBundle(trx, bundle, changes)
      return after
    })
  }

  updateBundle (trustDomain: TrustDomain, change: (current: Bundle | undefined) => Bundle): Promise<Bundle> {
    return this.#database.change(this.#clock.now(), async (trx, changes) => {
      await this.#lock(trx, trustDomain)
      return await updateBundle(trx, trustDomain, change, { database: this.#database, changes })
    })
  }

  delete (trustDomain: TrustDomain): Promise<FederationRelationship> {
    return this.#database.change(this.#clock.now(), async (trx, changes) => {
      const row = await trx.deleteFrom('federation_relationships').where('trust_domain', '=', trustDomain).returningAll().executeTakeFirst()
      if (row === undefined) throw notFound(trustDomain)
      changes.federation({ trustDomain })
      return decodeFederation(row)
    })
  }

  async get (trustDomain: TrustDomain): Promise<FederationRelationship | undefined> {
    const row = await this.#database.read(db =>
      db.selectFrom('federation_relationships').selectAll().where('trust_domain', '=', trustDomain).executeTakeFirst())
    return row === undefined ? undefined : decodeFederation(row)
  }

  async list (page: PageRequest, keep?: (trustDomain: TrustDomain) => boolean): Promise<FederationPage> {
    const { rows, nextPageToken } = await readPage(page, (after, limit) => this.#database.read(db =>
      db.selectFrom('federation_relationships').selectAll().where('row_id', '>', after).orderBy('row_id').limit(limit).execute()),
    keep === undefined ? undefined : row => keep(row.trust_domain as TrustDomain))
    return { relationships: rows.map(decodeFederation), nextPageToken }
  }

  async #lock (trx: Transaction<Schema>, trustDomain: TrustDomain) {
    const row = await this.#database.locked(
      trx.selectFrom('federation_relationships').selectAll().where('trust_domain', '=', trustDomain)
    ).executeTakeFirst()
    if (row === undefined) throw notFound(trustDomain)
    return row
  }

  async #setBundle (trx: Transaction<Schema>, bundle: Bundle | undefined, changes: ChangeSet): Promise<void> {
    if (bundle === undefined) return
    await updateBundle(trx, bundle.trustDomain, () => bundle, { database: this.#database, changes })
  }
}

function notFound (trustDomain: TrustDomain): SpiffeError {
  return new SpiffeError('federation_not_found', `no relationship with trust domain "${trustDomain}"`, { details: { trustDomain } })
}
