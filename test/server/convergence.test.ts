import t from 'tap'
import { Convergence, type ConsumerState, type ConvergenceDeps } from '../../src/server/push/convergence.ts'
import type { Progress } from '../../src/server/push/progress-reporter.ts'
import type { Agent } from '../../src/spiffe/agent.ts'
import type { SpiffeId } from '../../src/spiffe/spiffe-id.ts'
import type { AgentProgress } from '../../src/storage/progress-store.ts'
import { makeEntry } from '../fakes/entries.ts'

const now = new Date('2026-01-31T12:00:00Z')
const ago = (seconds: number) => new Date(now.getTime() - seconds * 1000)
const at = (number: number, epoch = 'e') => ({ epoch, number })
const a = 'spiffe://example.org/spire/agent/a' as SpiffeId
const b = 'spiffe://example.org/spire/agent/b' as SpiffeId

interface Facts {
  readonly here?: Progress
  readonly open?: number
  readonly row?: Partial<AgentProgress>
  /** When the replica of the row last reported; it is not in the list if absent. */
  readonly replicaSeenAt?: Date
  readonly banned?: boolean
}

type Between = ConvergenceDeps['feeds']['history']['between']

function convergenceOf (agents: Readonly<Record<SpiffeId, Facts>>, between: Between = () => new Map()) {
  const replica = (id: string, seenAt: Date) =>
    ({ id, name: id, version: '1', startedAt: seenAt, seenAt, cursor: at(1), facts: {} })
  const ids = Object.keys(agents) as SpiffeId[]
  return new Convergence({
    replicaId: 'here',
    replica: {
      registry: { agentIds: () => ids, agentsOf: id => id === 'web' ? [a] : [], get: id => id === 'web' ? makeEntry({ id }) : undefined },
      agents: { get: id => agents[id]?.banned === true ? { banned: true } as Agent : undefined }
    },
    feeds: { progressOf: id => agents[id]?.here, openOf: id => agents[id]?.open ?? 0, history: { between } },
    progress: {
      list: async () => ids.flatMap(agentId => {
        const row = agents[agentId]?.row
        return row === undefined ? [] : [{
          agentId, replicaId: agentId, state: 'acknowledged' as const, cursor: at(1), unservedEntryIds: [], seenAt: ago(3600), ...row
        }]
      })
    },
    replicas: {
      list: async () => ids.flatMap(id => {
        const seenAt = agents[id]?.replicaSeenAt
        return seenAt === undefined ? [] : [replica(id, seenAt)]
      })
    },
    clock: { now: () => now }
  })
}

void t.test('what is known of one agent', async t => {
  const acknowledged = (number: number, epoch = 'e'): Progress =>
    ({ state: 'acknowledged', cursor: at(number, epoch), unservedEntryIds: [] })
  const cases: [string, Facts, ConsumerState, boolean][] = [
    ['it said so here', { here: acknowledged(5), open: 1 }, 'acknowledged', true],
    ['it said so at another replica', { row: { cursor: at(7) }, replicaSeenAt: ago(1) }, 'acknowledged', true],
    ['it had it before it went away', { row: { cursor: at(5), replicaId: '' } }, 'acknowledged', true],
    ['what it has is of another log', { here: acknowledged(9, 'before the restore'), open: 1 }, 'waiting', false],
    ['it is connected here and behind', { here: acknowledged(4), open: 1 }, 'waiting', false],
    ['it has just connected', { open: 1 }, 'waiting', false],
    ['it is connected elsewhere and behind', { row: { cursor: at(4) }, replicaSeenAt: ago(1) }, 'waiting', false],
    ['its replica died a moment ago', { row: { cursor: at(4) }, replicaSeenAt: ago(14) }, 'waiting', false],
    ['its replica died long ago', { row: { cursor: at(4) }, replicaSeenAt: ago(16) }, 'absent', true],
    ['its stream ended a moment ago', { row: { cursor: at(4), replicaId: '', seenAt: ago(14) } }, 'waiting', false],
    ['its stream ended long ago', { row: { cursor: at(4), replicaId: '', seenAt: ago(16) } }, 'absent', true],
    ['it polls and was answered', { row: { cursor: at(5), state: 'written', seenAt: ago(1) } }, 'written', false],
    ['it polled again', { row: { cursor: at(5), state: 'inferred', seenAt: ago(1) } }, 'inferred', true],
    ['it polls and is behind', { row: { cursor: at(4), state: 'inferred', seenAt: ago(29) } }, 'waiting', false],
    ['it polls no more', { row: { cursor: at(4), state: 'inferred', seenAt: ago(31) } }, 'absent', true],
    ['nothing was ever heard of it', {}, 'absent', true]
  ]
  for (const [what, facts, state, converged] of cases) {
    const judged = await convergenceOf({ [a]: facts }).state({ cursor: at(5), entryIds: [] })
    t.match(judged, { consumers: [{ agentId: a, state }], converged }, what)
    const { cursor, proved } = judged.consumers[0] ?? {}
    t.strictSame(proved, state === 'written' ? undefined : cursor, `${what}: up to where it is proved`)
  }
  const gone: [string, Facts, boolean][] = [
    ['it is connected here', { here: acknowledged(5), open: 1 }, true],
    ['its replica lives', { row: { cursor: at(7) }, replicaSeenAt: ago(1) }, true],
    ['its stream ended a moment ago', { row: { cursor: at(5), replicaId: '', seenAt: ago(14) } }, true],
    ['its stream ended long ago', { row: { cursor: at(5), replicaId: '', seenAt: ago(16) } }, false],
    ['its replica died long ago', { row: { cursor: at(5) }, replicaSeenAt: ago(16) }, false],
    ['it polled again', { row: { cursor: at(5), state: 'inferred', seenAt: ago(29) } }, true],
    ['it polls no more', { row: { cursor: at(5), state: 'inferred', seenAt: ago(31) } }, false]
  ]
  for (const [what, facts, live] of gone) {
    t.match(await convergenceOf({ [a]: facts }).state({ cursor: at(5), entryIds: [] }), { consumers: [{ live }], converged: true },
      `${what}: it has everything, and may have gone`)
  }
  const banned = await convergenceOf({ [a]: { banned: true, open: 1 } }).state({ cursor: at(5), entryIds: [] })
  t.strictSame(banned, { consumers: [], converged: true }, 'nothing waits for one that is banned')
})

void t.test('whom a change concerns', async t => {
  const agents = { [a]: { here: { state: 'acknowledged' as const, cursor: at(5), unservedEntryIds: [] }, open: 1 }, [b]: { open: 1 } }
  const asked = async (question: Parameters<Convergence['state']>[0], between?: Between) => {
    const { consumers, converged } = await convergenceOf(agents, between).state(question)
    return [consumers.map(({ agentId }) => agentId), converged]
  }
  t.strictSame(await asked({ cursor: at(5), entryIds: [] }), [[a, b], false], 'all')
  t.strictSame(await asked({ cursor: at(5), entryIds: ['web'] }), [[a], true], 'those who have the entry now')
  t.strictSame(await asked({ cursor: at(5), entryIds: ['web', 'gone'] }), [[a, b], false], 'everybody, where it is not known who had it')
  const between = (since: { number: number }, until: { number: number }) => new Map([[b, until.number - since.number]])
  t.strictSame(await asked({ cursor: at(5), since: at(3), entryIds: ['web'] }, between), [[b], false], 'those whom the change touched')
  t.strictSame(await asked({ cursor: at(5), since: at(3), entryIds: ['web'] }, () => undefined), [[a, b], false],
    'everybody, where it is not remembered whom it touched')
})
