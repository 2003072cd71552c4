import { randomUUID } from 'node:crypto'
import type { ExpressionBuilder, ExpressionWrapper, SqlBool } from 'kysely'
import type { Clock } from '../../runtime/clock.ts'
import type { Entry, EntryDraft } from '../../spiffe/entry.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { CreateOutcome, EntryFilter, EntryGuard, EntryPage, EntryStore, EntryUpdate } from '../entry-store.ts'
import type { PageRequest } from '../page.ts'
import { chunks, idsPerStatement } from './chunks.ts'
import { createEntries } from './create-entries.ts'
import { deleteGuarded, isDone } from './delete-guarded.ts'
import { canonicalEntry, decodeEntry, entryColumns, entryNotFound } from './entry-rows.ts'
import { countKept, readChunks, readPage, type ReadRows } from './read-pages.ts'
import type { EntryRow, Schema } from './schema.ts'
import { selectorKeys } from './selector-columns.ts'
import { entryFederationSet, entrySelectorSet, setCondition } from './set-condition.ts'
import type { SqlDatabase } from './sql-database.ts'
import { updateEntries } from './update-entries.ts'

export class SqlEntryStore implements EntryStore {
  readonly #database: SqlDatabase
  readonly #clock: Clock

  constructor (database: SqlDatabase, clock: Clock) {
    this.#database = database
    this.#clock = clock
  }

  async createMany (drafts: readonly EntryDraft[]): Promise<readonly CreateOutcome[]> {
    if (drafts.length === 0) return []
    const createdAtSeconds = Math.floor(this.#clock.now().getTime() / 1000)
    const entries = drafts.map(draft =>
      canonicalOrRefusal({ ...draft, id: draft.id || randomUUID(), revisionNumber: 0, createdAtSeconds }))
    return this.#database.change(this.#clock.now(), async (trx, changes) => {
      const outcomes = await createEntries(trx, entries)
      changes.entries(outcomes.flatMap(outcome => outcome.kind === 'created' ? [outcome.entry] : []))
      return outcomes
    })
  }

  async updateMany (updates: readonly EntryUpdate[], guard?: EntryGuard): Promise<ReadonlyArray<Entry | SpiffeError>> {
    if (updates.length === 0) return []
    return this.#database.change(this.#clock.now(), async (trx, changes) => {
      const outcomes = await updateEntries(trx, updates, this.#database, guard)
      changes.entries(outcomes.filter(isDone))
      return outcomes
    })
  }

  deleteMany (ids: readonly string[], guard?: EntryGuard): Promise<ReadonlyArray<Entry | SpiffeError>> {
    return this.#database.change(this.#clock.now(), async (trx, changes) => {
      const outcomes = await deleteGuarded(ids, guard, {
        read: async some => (await this.#database.locked(
          trx.selectFrom('entries').selectAll().where('id', 'in', some).orderBy('row_id')).execute()).map(decodeEntry),
        remove: async some => (await trx.deleteFrom('entries').where('id', 'in', some).returningAll().execute()).map(decodeEntry),
        notFound: entryNotFound
      })
      changes.entries(outcomes.filter(isDone))
      return outcomes
    })
  }

  async get (id: string): Promise<Entry | undefined> {
    const row = await this.#database.read(db => db.selectFrom('entries').selectAll().where('id', '=', id).executeTakeFirst())
    return row === undefined ? undefined : decodeEntry(row)
  }

  async getMany (ids: readonly string[]): Promise<readonly Entry[]> {
    const found: EntryRow[] = []
    for (const chunk of chunks([...new Set(ids)], idsPerStatement)) {
      found.push(...await this.#database.read(db => db.selectFrom('entries').selectAll().where('id', 'in', chunk).execute()))
    }
    return found.toSorted((a, b) => a.row_id - b.row_id).map(decodeEntry)
  }

  async list (filter: EntryFilter, page: PageRequest): Promise<EntryPage> {
    const { rows, nextPageToken } = await readPage(page, this.#reader(filter), keptBy(filter))
    return { entries: rows.map(decodeEntry), nextPageToken }
  }

  async count (filter: EntryFilter): Promise<number> {
    const keep = keptBy(filter)
    if (keep !== undefined) return await countKept(this.#reader(filter), keep)
    const { count } = await this.#database.read(db => db.selectFrom('entries').where(eb => conditions(eb, filter))
      .select(eb => eb.fn.countAll<number>().as('count')).executeTakeFirstOrThrow())
    return count
  }

  async * all (): AsyncGenerator<Entry, void, undefined> {
    for await (const rows of readChunks(this.#reader({}))) for (const row of rows) yield decodeEntry(row)
  }

  async deleteExpired (now: Date): Promise<readonly Entry[]> {
    const rows = await this.#database.change(now, async (trx, changes) => {
      const rows = await trx.deleteFrom('entries')
        .where('expires_at', '>', 0).where('expires_at', '<=', Math.floor(now.getTime() / 1000)).returningAll().execute()
      changes.entries(rows)
      return rows
    })
    return rows.toSorted((a, b) => a.row_id - b.row_id).map(decodeEntry)
  }

  #reader (filter: EntryFilter): ReadRows<Parameters<typeof decodeEntry>[0]> {
    return (after, limit) => this.#database.read(db => db.selectFrom('entries').select(entryColumns)
      .where(eb => conditions(eb, filter)).where('row_id', '>', after).orderBy('row_id').limit(limit).execute())
  }
}

function keptBy ({ keep }: EntryFilter): ((row: Parameters<typeof decodeEntry>[0]) => boolean) | undefined {
  return keep === undefined ? undefined : row => keep(decodeEntry(row))
}

function canonicalOrRefusal (entry: Entry): Entry | SpiffeError {
  try {
    return canonicalEntry(entry)
  } catch (error) {
    if (error instanceof SpiffeError) return error
    throw error
  }
}

function conditions (eb: ExpressionBuilder<Schema, 'entries'>, filter: EntryFilter): ExpressionWrapper<Schema, 'entries', SqlBool> {
  const { spiffeId, parentId, selectors, federatesWith, hint, downstream } = filter
  return eb.and([
    ...spiffeId === undefined ? [] : [eb('spiffe_id', '=', spiffeId)],
    ...parentId === undefined ? [] : [eb('parent_id', '=', parentId)],
    ...selectors === undefined ? []
      : [setCondition(entrySelectorSet, selectors.match, selectorKeys(selectors.values))],
    ...federatesWith === undefined ? []
      : [setCondition(entryFederationSet, federatesWith.match, [...new Set(federatesWith.values)])],
    ...hint === undefined || hint === '' ? [] : [eb('hint', '=', hint)],
    ...downstream === true ? [eb('downstream', '=', 1)] : []
  ])
}
