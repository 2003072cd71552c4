import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import type { EntryDraft } from '../../src/spiffe/entry.ts'
import type { Datastore } from '../../src/storage/datastore.ts'
import { openDatastore } from '../../src/storage/open-datastore.ts'
import { withCallers } from '../measure/callers.ts'
import { agentOf, entriesOf, type Population } from './population.ts'

const createdAtOnce = 2_000

/** Stores agents and entries as a server does. @returns how long it took, ms */
export async function fill (url: string, population: Population, progress: (text: string) => void): Promise<number> {
  await using store = await openDatastore(url, { clock: systemClock, log: silentLogger })
  const started = performance.now()
  await withCallers(8, population.agents, async node => { await store.agents.attest(agentOf(node)) })
  let stored = 0
  for (const drafts of batches(entriesOf(population))) {
    await create(store, drafts)
    stored += drafts.length
    if (stored % 100_000 === 0) progress(`${stored.toLocaleString('en-US')} entries stored`)
  }
  return performance.now() - started
}

async function create (store: Datastore, drafts: readonly EntryDraft[]): Promise<void> {
  const refused = (await store.entries.createMany(drafts)).find(({ kind }) => kind !== 'created')
  if (refused !== undefined) throw new Error(`an entry was not created: ${JSON.stringify(refused)}`)
}

function * batches (drafts: Iterable<EntryDraft>): Generator<readonly EntryDraft[]> {
  let batch: EntryDraft[] = []
  for (const draft of drafts) {
    if (batch.push(draft) < createdAtOnce) continue
    yield batch
    batch = []
  }
  if (batch.length > 0) yield batch
}
