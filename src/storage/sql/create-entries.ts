import type { Kysely } from 'kysely'
import type { Entry } from '../../spiffe/entry.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { CreateOutcome } from '../entry-store.ts'
import { chunks, idsPerStatement } from './chunks.ts'
import { decodeEntry, similarityOf } from './entry-rows.ts'
import type { Schema } from './schema.ts'
import { checkDomains, insertEntries, knownDomains } from './write-entries.ts'

/**
 * Decides about each draft in turn, then writes those that are new. A writer that comes in between breaks a unique key: the
 * transaction begins again and sees it.
 * @param drafts canonical, or the refusal that making one canonical met
 */
export async function createEntries (trx: Kysely<Schema>, drafts: ReadonlyArray<Entry | SpiffeError>): Promise<readonly CreateOutcome[]> {
  const valid = drafts.filter((draft): draft is Entry => !(draft instanceof SpiffeError))
  const similar = await storedSimilar(trx, valid)
  const takenIds = await storedIds(trx, valid)
  const known = await knownDomains(trx, valid.flatMap(entry => entry.federatesWith))
  const created: Entry[] = []
  const outcomes = drafts.map((draft): CreateOutcome => {
    if (draft instanceof SpiffeError) return { kind: 'refused', error: draft }
    const key = similarityOf(draft).toString('hex')
    const other = similar.get(key)
    if (other !== undefined) return { kind: 'similar', entry: other }
    try {
      if (takenIds.has(draft.id)) throw new SpiffeError('entry_exists', `an entry with id ${JSON.stringify(draft.id)} already exists`)
      checkDomains(draft, known)
    } catch (error) {
      if (error instanceof SpiffeError) return { kind: 'refused', error }
      throw error
    }
    similar.set(key, draft)
    takenIds.add(draft.id)
    created.push(draft)
    return { kind: 'created', entry: draft }
  })
  await insertEntries(trx, created)
  return outcomes
}

async function storedSimilar (trx: Kysely<Schema>, entries: readonly Entry[]): Promise<Map<string, Entry>> {
  const found = new Map<string, Entry>()
  for (const chunk of chunks(entries, idsPerStatement)) {
    const rows = await trx.selectFrom('entries').selectAll().where('similarity', 'in', chunk.map(similarityOf)).execute()
    for (const row of rows) found.set(Buffer.from(row.similarity).toString('hex'), decodeEntry(row))
  }
  return found
}

async function storedIds (trx: Kysely<Schema>, entries: readonly Entry[]): Promise<Set<string>> {
  const found = new Set<string>()
  for (const chunk of chunks(entries, idsPerStatement)) {
    const rows = await trx.selectFrom('entries').select('id').where('id', 'in', chunk.map(entry => entry.id)).execute()
    for (const row of rows) found.add(row.id)
  }
  return found
}
