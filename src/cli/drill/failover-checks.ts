import type { Convergence, GetStatusResponse, Replica } from '../../wire/generated/cluster.ts'
import { counted } from '../pretty.ts'

/** What must hold before a replica is taken away on purpose. */
export interface Check {
  readonly name: string
  readonly passed: boolean
  readonly detail: string
  /** The way out, where it did not pass. */
  readonly next?: string
}

/** What the replicas that were asked say, in the order of their sockets. */
export interface ClusterView {
  readonly statuses: readonly GetStatusResponse[]
  /** Of all agents, by the first one asked. */
  readonly convergence: Convergence
}

/** Replicas report every two seconds. */
const silentMs = 10_000n
const staleMs = 5_000n

/** Those that reported lately: their own clocks do not matter, the latest report is what others are compared with. */
function liveReplicas ({ replicas }: GetStatusResponse): Replica[] {
  const latest = replicas.reduce((latest, { seenAt }) => seenAt > latest ? seenAt : latest, 0n)
  return replicas.filter(({ seenAt }) => latest - seenAt < silentMs)
}

export function checkCluster ({ statuses, convergence }: ClusterView): Check[] {
  const [first] = statuses as [GetStatusResponse]
  const live = liveReplicas(first)
  const liveIds = new Set(live.map(({ id }) => id))
  const asked = new Set(statuses.map(({ replicaId }) => replicaId))
  const named = (replicas: readonly Replica[]) => replicas.map(({ address }) => address).join(', ')
  const among = (bad: readonly Replica[]) => bad.length === 0 ? `all ${live.length}` : `not ${named(bad)}`
  const silent = first.replicas.filter(({ id }) => !liveIds.has(id))
  const unnudged = live.filter(({ nudged }) => !nudged)
  const stale = live.filter(replica => replica.staleMs > staleMs)
  const aside = live.filter(({ asideMs }) => asideMs > 0n)
  const oneDatabase = statuses.every(({ head, replicaId }) => head?.epoch === first.head?.epoch && liveIds.has(replicaId))
  return [
    check('replicas of one database', oneDatabase && asked.size === statuses.length,
      `${counted(asked.size, 'replica', 'replicas')} behind ${counted(statuses.length, 'socket', 'sockets')}`,
      'name each replica of one trust domain once'),
    check('two live replicas', live.length >= 2, `${live.length} live${silent.length > 0 ? `, silent: ${named(silent)}` : ''}`,
      'start another server on the same PostgreSQL database'),
    check('shared authorities', first.sharedAuthorities, first.sharedAuthorities ? 'one root for all' : 'a root for each replica',
      'use the key manager "database" on every server'),
    check('told of changes', unnudged.length === 0, among(unnudged), 'set datastore_direct_url to an address without a pooler in between'),
    check('fresh', stale.length === 0, among(stale), 'repair the way of these replicas to the database'),
    check('on duty', aside.length === 0, among(aside), 'wait until they are back: another drill is under way'),
    checkConvergence(convergence)
  ]
}

function checkConvergence ({ consumers }: Convergence): Check {
  const waiting = consumers.filter(({ state }) => state === 'waiting' || state === 'written')
  const absent = consumers.filter(({ state }) => state === 'absent').length
  const upToDate = consumers.length - waiting.length - absent
  const detail = [
    `${counted(upToDate, 'agent is', 'agents are')} up to date`,
    ...absent > 0 ? [`${absent} absent`] : [],
    ...waiting.length > 0 ? [`waiting for ${waiting.map(({ agentId }) => agentId).join(', ')}`] : []
  ]
  return check('converged', waiting.length === 0, detail.join('; '), 'see the logs of the agents that lag')
}

function check (name: string, passed: boolean, detail: string, next: string): Check {
  return passed ? { name, passed, detail } : { name, passed, detail, next }
}
