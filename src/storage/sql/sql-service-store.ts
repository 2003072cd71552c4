import { randomUUID } from 'node:crypto'
import type { Transaction } from 'kysely'
import type { Clock } from '../../runtime/clock.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { Service, ServiceDraft } from '../../spiffe/service.ts'
import type { PageRequest } from '../page.ts'
import type { ServiceGuard, ServicePage, ServiceStore } from '../service-store.ts'
import { deleteGuarded, isDone } from './delete-guarded.ts'
import { differs } from './differs.ts'
import { readChunks, readPage, type ReadRows } from './read-pages.ts'
import type { Schema, ServiceRow } from './schema.ts'
import { claimsOf, decodeService, encodeService, nameClaim } from './service-rows.ts'
import type { SqlDatabase } from './sql-database.ts'

export class SqlServiceStore implements ServiceStore {
  readonly #database: SqlDatabase
  readonly #clock: Clock

  constructor (database: SqlDatabase, clock: Clock) {
    this.#database = database
    this.#clock = clock
  }

  createMany (drafts: readonly ServiceDraft[]): Promise<ReadonlyArray<Service | SpiffeError>> {
    const createdAtSeconds = Math.floor(this.#clock.now().getTime() / 1000)
    const services = drafts.map(draft => ({ ...draft, id: draft.id || randomUUID(), revisionNumber: 0, createdAtSeconds }))
    return this.#eachInTurn(services, createService)
  }

  updateMany (drafts: readonly ServiceDraft[], guard?: ServiceGuard): Promise<ReadonlyArray<Service | SpiffeError>> {
    return this.#eachInTurn(drafts, (trx, draft) => updateService(trx, draft, this.#database, guard))
  }

  deleteMany (ids: readonly string[], guard?: ServiceGuard): Promise<ReadonlyArray<Service | SpiffeError>> {
    return this.#database.change(this.#clock.now(), async (trx, changes) => {
      const outcomes = await deleteGuarded(ids, guard, {
        read: async some => (await this.#database.locked(
          trx.selectFrom('services').selectAll().where('id', 'in', some).orderBy('row_id')).execute()).map(decodeService),
        remove: async some => (await trx.deleteFrom('services').where('id', 'in', some).returningAll().execute()).map(decodeService),
        notFound
      })
      changes.services(outcomes.filter(isDone))
      return outcomes
    })
  }

  async get (id: string): Promise<Service | undefined> {
    const row = await this.#database.read(db => db.selectFrom('services').selectAll().where('id', '=', id).executeTakeFirst())
    return row === undefined ? undefined : decodeService(row)
  }

  async getByName (name: string): Promise<Service | undefined> {
    const row = await this.#database.read(db => db.selectFrom('services').selectAll()
      .where('row_id', 'in', db.selectFrom('service_claims').select('service_row').where('claim', '=', nameClaim(name))).executeTakeFirst())
    return row === undefined ? undefined : decodeService(row)
  }

  async list (page: PageRequest, keep?: (service: Service) => boolean): Promise<ServicePage> {
    const { rows, nextPageToken } = await readPage(page, this.#readRows, keep === undefined ? undefined : row => keep(decodeService(row)))
    return { services: rows.map(decodeService), nextPageToken }
  }

  async count (): Promise<number> {
    const { count } = await this.#database.read(db =>
      db.selectFrom('services').select(eb => eb.fn.countAll<number>().as('count')).executeTakeFirstOrThrow())
    return count
  }

  async * all (): AsyncGenerator<Service, void, undefined> {
    for await (const rows of readChunks(this.#readRows)) for (const row of rows) yield decodeService(row)
  }

  readonly #readRows: ReadRows<ServiceRow> = (after, limit) => this.#database.read(db =>
    db.selectFrom('services').selectAll().where('row_id', '>', after).orderBy('row_id').limit(limit).execute())

  /** One transaction. `write` gives what it left alone, or throws a refusal before it wrote anything. */
  async #eachInTurn<T> (
    items: readonly T[], write: (trx: Transaction<Schema>, item: T) => Promise<{ readonly service: Service, readonly changed: boolean }>
  ): Promise<ReadonlyArray<Service | SpiffeError>> {
    if (items.length === 0) return []
    return this.#database.change(this.#clock.now(), async (trx, changes) => {
      const outcomes: Array<Service | SpiffeError> = []
      for (const item of items) {
        try {
          const { service, changed } = await write(trx, item)
          if (changed) changes.services([service])
          outcomes.push(service)
        } catch (error) {
          if (!(error instanceof SpiffeError)) throw error
          outcomes.push(error)
        }
      }
      return outcomes
    })
  }
}

async function createService (trx: Transaction<Schema>, service: Service) {
  const taken = await trx.selectFrom('services').select('row_id').where('id', '=', service.id).executeTakeFirst()
  if (taken !== undefined) throw new SpiffeError('service_exists', `a service with id ${JSON.stringify(service.id)} already exists`)
  await checkClaims(trx, service, undefined)
  const { row_id: row } = await trx.insertInto('services').values(encodeService(service)).returning('row_id').executeTakeFirstOrThrow()
  await claim(trx, service, row)
  return { service, changed: true }
}

async function updateService (
  trx: Transaction<Schema>, draft: ServiceDraft, database: Pick<SqlDatabase, 'locked'>, guard: ServiceGuard | undefined
) {
  const row = await database.locked(trx.selectFrom('services').selectAll().where('id', '=', draft.id)).executeTakeFirst()
  if (row === undefined) throw notFound(draft.id)
  const before = decodeService(row)
  const refusal = guard?.(before, draft)
  if (refusal !== undefined) throw refusal
  const { revisionNumber, createdAtSeconds } = before
  if (!differs(row, encodeService({ ...draft, revisionNumber, createdAtSeconds }))) return { service: before, changed: false }
  const service: Service = { ...draft, revisionNumber: revisionNumber + 1, createdAtSeconds }
  await checkClaims(trx, service, row.row_id)
  await trx.updateTable('services').set(encodeService(service)).where('row_id', '=', row.row_id).execute()
  await trx.deleteFrom('service_claims').where('service_row', '=', row.row_id).execute()
  await claim(trx, service, row.row_id)
  return { service, changed: true }
}

/** A writer that comes in between breaks the key of the claims: the transaction begins again and sees it here. */
async function checkClaims (trx: Transaction<Schema>, service: Service, own: number | undefined): Promise<void> {
  const held = await trx.selectFrom('service_claims').innerJoin('services', 'services.row_id', 'service_claims.service_row')
    .select(['claim', 'service_row', 'name']).where('claim', 'in', claimsOf(service)).execute()
  const other = held.find(({ service_row: row }) => row !== own)
  if (other !== undefined) throw new SpiffeError('service_exists', `${other.claim} is that of service "${other.name}"`)
}

async function claim (trx: Transaction<Schema>, service: Service, row: number): Promise<void> {
  // In one order, so that two writers never wait for each other in a circle.
  const claims = claimsOf(service).toSorted()
  await trx.insertInto('service_claims').values(claims.map(claim => ({ claim, service_row: row }))).execute()
}

function notFound (id: string): SpiffeError {
  return new SpiffeError('service_not_found', 'service not found', { details: { id } })
}
