import { join } from 'node:path'
import t from 'tap'
import { silentLogger } from '../../src/runtime/logger.ts'
import { runChores } from '../../src/server/chores.ts'
import { openDatastore } from '../../src/storage/open-datastore.ts'
import type { AgentProgress } from '../../src/storage/progress-store.ts'
import { ManualClock } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'
import { agent } from '../storage/fixture.ts'

const minute = 60_000

void t.test('how far agents were that are none any more is forgotten', async t => {
  const clock = new ManualClock()
  await using store = await openDatastore(join(t.testdir(), 'datastore.sqlite3'), { clock, log: silentLogger })
  const [stays, goes] = [agent('stays'), agent('goes')]
  const progressOf = ({ id: agentId }: { readonly id: AgentProgress['agentId'] }): AgentProgress => (
    { agentId, replicaId: '', state: 'acknowledged', cursor: { epoch: 'e', number: 1 }, unservedEntryIds: [], seenAt: clock.now() }
  )
  for (const one of [stays, goes]) await store.agents.attest(one)
  await store.progress.report([stays, goes].map(progressOf))
  await store.agents.delete(goes.id)
  const known = async () => (await store.progress.list()).map(({ agentId }) => agentId)
  const stop = new AbortController()
  const running = runChores({
    caTtlSeconds: 86_400, pruneAgents: undefined, changesKeptMs: minute, authorities: { rotateIfDue: async () => {} },
    lease: { stores: store }, goneReporters: { sweep: async () => {} }, clock, log: silentLogger
  }, stop.signal).catch(() => {})
  await clock.advance(9 * minute)
  t.equal((await known()).length, 2, 'a stream of it may only now come to its end')
  await eventually('it is forgotten', async () => {
    await clock.advance(minute)
    return (await known()).length === 1
  })
  t.strictSame(await known(), [stays.id], 'an agent that has had nothing to say since is known all the same')
  stop.abort(new Error('the test is over'))
  await running
})
