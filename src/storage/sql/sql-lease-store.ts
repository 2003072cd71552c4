import type { Transaction } from 'kysely'
import type { Clock } from '../../runtime/clock.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { Stores } from '../datastore.ts'
import type { Lease, LeaseStore } from '../lease-store.ts'
import { DatabaseTime } from './database-time.ts'
import type { Schema } from './schema.ts'
import type { Fence, SqlDatabase } from './sql-database.ts'

type LeaseRow = Schema['leases']

export class SqlLeaseStore implements LeaseStore {
  readonly #database: SqlDatabase
  readonly #time: DatabaseTime
  readonly #storesOn: (database: SqlDatabase) => Stores

  constructor (database: SqlDatabase, clock: Clock, storesOn: (database: SqlDatabase) => Stores) {
    this.#database = database
    this.#time = new DatabaseTime(database, clock)
    this.#storesOn = storesOn
  }

  async acquire (name: string, holder: string, ttlMs: number, { seize = false }: { readonly seize?: boolean } = {}): Promise<Lease> {
    return await this.#database.transaction(async trx => {
      await trx.insertInto('leases').values({ name, holder: '', token: 0, expires_at: 0 })
        .onConflict(conflict => conflict.column('name').doNothing()).execute()
      const before = await this.#database.locked(trx.selectFrom('leases').selectAll().where('name', '=', name)).executeTakeFirstOrThrow()
      // Only now: the row may have been waited for.
      const now = await this.#now(trx)
      const runs = before.expires_at > now
      const mine = runs && before.holder === holder && !seize
      if (runs && !mine && !seize) return decodeLease(before)
      const after = { ...before, holder, token: before.token + (mine ? 0 : 1), expires_at: now + ttlMs }
      await trx.updateTable('leases').set(after).where('name', '=', name).execute()
      return decodeLease(after)
    })
  }

  async release (name: string, holder: string): Promise<void> {
    await this.#database.transaction(trx =>
      trx.updateTable('leases').set({ expires_at: 0 }).where('name', '=', name).where('holder', '=', holder).execute())
  }

  async get (name: string): Promise<Lease | undefined> {
    const row = await this.#database.read(db => db.selectFrom('leases').selectAll().where('name', '=', name).executeTakeFirst())
    return row === undefined ? undefined : decodeLease(row)
  }

  fenced (name: string, { holder, token }: Pick<Lease, 'holder' | 'token'>): Stores {
    const fence: Fence = async trx => {
      const query = trx.selectFrom('leases').select(['holder', 'token']).where('name', '=', name)
      // Shared: until this transaction ends nobody takes the lease over.
      const row = await (this.#database.kind === 'postgres' ? query.forShare() : query).executeTakeFirst()
      // The holder counts as well: a standby that is promoted without the last commits gives their numbers a second time.
      if (row?.token !== token || row.holder !== holder) {
        throw new SpiffeError('lease_lost', `the lease "${name}" has gone to another replica`, { details: { token, now: row?.token } })
      }
    }
    return this.#storesOn(this.#database.fenced(fence))
  }

  async #now (trx: Transaction<Schema>): Promise<number> {
    const { now } = await trx.selectNoFrom(this.#time.now().as('now')).executeTakeFirstOrThrow()
    return now
  }
}

function decodeLease ({ holder, token, expires_at: expiresAt }: LeaseRow): Lease {
  return { holder, token, expiresAt: new Date(expiresAt) }
}
