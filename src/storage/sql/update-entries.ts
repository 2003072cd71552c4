import type { Kysely } from 'kysely'
import type { Entry } from '../../spiffe/entry.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { EntryGuard, EntryUpdate } from '../entry-store.ts'
import { chunks, idsPerStatement } from './chunks.ts'
import { canonicalEntry, decodeEntry, entryNotFound, similarityOf } from './entry-rows.ts'
import type { Schema } from './schema.ts'
import type { SqlDatabase } from './sql-database.ts'
import { checkDomains, knownDomains, replaceEntry } from './write-entries.ts'

interface Stored { readonly row: number, readonly entry: Entry }

/** Applies each change in turn to what those before it left. */
export async function updateEntries (
  trx: Kysely<Schema>, updates: readonly EntryUpdate[], database: Pick<SqlDatabase, 'locked'>, guard?: EntryGuard
): Promise<ReadonlyArray<Entry | SpiffeError>> {
  const stored = new Map<string, Stored>()
  for (const chunk of chunks(updates, idsPerStatement)) {
    const query = trx.selectFrom('entries').selectAll().where('id', 'in', chunk.map(({ id }) => id)).orderBy('row_id')
    for (const row of await database.locked(query).execute()) stored.set(row.id, { row: row.row_id, entry: decodeEntry(row) })
  }
  const known = await knownDomains(trx, updates.flatMap(({ change }) => change.federatesWith ?? []))
  const outcomes: Array<Entry | SpiffeError> = []
  for (const { id, change } of updates) {
    try {
      const { row, entry: before } = stored.get(id) ?? refuse(entryNotFound(id))
      const entry = canonicalEntry({
        ...before, ...change, id, revisionNumber: before.revisionNumber + 1, createdAtSeconds: before.createdAtSeconds
      })
      const refusal = guard?.(before, entry)
      if (refusal !== undefined) throw refusal
      if (change.federatesWith !== undefined) checkDomains(entry, known)
      await checkUnique(trx, row, entry)
      await replaceEntry(trx, row, before, entry)
      stored.set(id, { row, entry })
      outcomes.push(entry)
    } catch (error) {
      if (!(error instanceof SpiffeError)) throw error
      outcomes.push(error)
    }
  }
  return outcomes
}

async function checkUnique (trx: Kysely<Schema>, row: number, entry: Entry): Promise<void> {
  const other = await trx.selectFrom('entries').select('id').where('similarity', '=', similarityOf(entry)).where('row_id', '<>', row)
    .executeTakeFirst()
  if (other !== undefined) throw new SpiffeError('entry_exists', 'similar entry already exists', { details: { id: other.id } })
}

function refuse (error: SpiffeError): never { throw error }
