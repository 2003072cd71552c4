import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { syncEntries } from '../../src/agent/sync-entries.ts'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { bind, openRpcServer } from '../../src/rpc/server.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import type { Entry } from '../../src/spiffe/entry.ts'
import { agentEntryMask } from '../../src/wire/entry-codec.ts'
import { entryService, type SyncAuthorizedEntriesRequest } from '../../src/wire/generated/server-entry.ts'
import type { EntryInit } from '../../src/wire/generated/types.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { idOf } from '../fakes/entries.ts'

const entry = (id: string, rest: EntryInit = {}): EntryInit => ({
  id, spiffeId: { trustDomain: 'example.org', path: `/${id}` }, selectors: [{ type: 'unix', value: 'uid:1' }], revisionNumber: 1n,
  createdAt: 7n, ...rest
})
const byId = (entries: readonly Entry[]) => new Map(entries.map(entry => [entry.id, entry]))

/** One synchronisation with a server that answers by pages of two, and tells nothing of the entries in `untold`. */
async function syncWith (held: readonly EntryInit[], known: ReadonlyMap<string, Entry> = new Map(), untold: readonly string[] = []) {
  const requests: SyncAuthorizedEntriesRequest[] = []
  const { log, lines } = capturedLog()
  const folder = await mkdtemp(join(tmpdir(), 'assay-sync-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  await using server = openRpcServer({
    services: [bind(entryService, {
      async * syncAuthorizedEntries (asked) {
        let listed = false
        for await (const request of asked) {
          requests.push(request)
          const wanted = listed ? held.filter(({ id = '' }) => request.ids.includes(id) && !untold.includes(id)) : held
          const revisions = wanted.map(({ id, revisionNumber, createdAt }) => ({ id, revisionNumber, createdAt }))
          for (let start = 0; start === 0 || start < wanted.length; start += 2) {
            const more = start + 2 < wanted.length
            yield listed ? { entries: wanted.slice(start, start + 2), more } : { entryRevisions: revisions.slice(start, start + 2), more }
          }
          listed = true
        }
      }
    })],
    log: silentLogger,
    clock: systemClock
  })
  const { path } = await server.listenUnix({ path: join(folder, 'server.sock'), mode: 0o700 })
  await using channel = openUnixChannel(path)
  const entries = await syncEntries(channel.client(entryService), known, idOf('/spire/agent/a'), log, { timeoutMs: 20_000 })
  return { requests, entries, warned: lines.filter(({ level }) => level === 'warn').map(line => line['entry']) }
}

void t.test('entries are asked for by what changed, in pages as large as the server\'s (spire-surface §2.3)', async t => {
  const held = ['e', 'd', 'c', 'b', 'a'].map(id => entry(id))
  const first = await syncWith(held)
  t.strictSame(first.entries.map(({ id }) => id), ['e', 'd', 'c', 'b', 'a'])
  const [opening, ...rest] = first.requests
  t.match(opening, { outputMask: agentEntryMask, ids: [] }, 'no IDs at first, and revisions in the mask')
  t.strictSame(rest.map(({ ids, outputMask }) => [outputMask, ...ids]), [[undefined, 'a', 'b'], [undefined, 'c', 'd'], [undefined, 'e']],
    'sorted, no more at once than the server\'s first page had')

  const known = byId(first.entries)
  const changes: Record<string, EntryInit> = { b: { revisionNumber: 2n, hint: 'x' }, d: { createdAt: 8n } }
  const changed = held.map(({ id = '' }) => entry(id, changes[id]))
  const second = await syncWith(changed.slice(1), known)
  t.strictSame(second.requests.slice(1).flatMap(({ ids }) => ids), ['b', 'd'], 'another revision, or another entry of the same ID')
  t.strictSame(second.entries.map(({ id }) => id), ['d', 'c', 'b', 'a'], 'what is not listed is gone')
  t.ok(second.entries.filter(({ id }) => id === 'a' || id === 'c').every(entry => known.get(entry.id) === entry))
  t.strictSame((await syncWith(held, known)).requests.length, 1, 'when nothing changed, nothing is asked')
})

void t.test('what the server does not tell, or tells so that it cannot be read, is left out', async t => {
  const held = ['a', 'b', 'c', 'd'].map(id => entry(id))
  const known = byId((await syncWith(held)).entries)
  const broken = { spiffeId: { trustDomain: 'example.org', path: 'b' } }
  const newer = held.map(({ id = '' }) => entry(id, { revisionNumber: 2n, ...id === 'b' ? broken : {} }))
  const { entries, warned } = await syncWith(newer, known, ['c', 'd'])
  t.strictSame(entries.map(({ id }) => id), ['a'], 'an older form of it is not served in its place')
  t.strictSame(warned, ['b'])
})
