import type { AuthorityKind } from '../../ca/authority-record.ts'
import type { Clock } from '../../runtime/clock.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { Cursor } from '../../storage/change-log.ts'
import type { Datastore } from '../../storage/datastore.ts'
import type { Replica as StoredReplica } from '../../storage/replica-store.ts'
import type { CallContext } from '../../rpc/call.ts'
import { decodeCursor, encodeCursor } from '../../wire/cursor-codec.ts'
import type {
  AuthorityInit, ClusterHandlers, ConvergenceInit, GetStatusResponseInit, ReplicaInit, StandAsideRequest, StandAsideResponseInit,
  WatchConvergenceRequest
} from '../../wire/generated/cluster.ts'
import type { Authorities } from '../authorities.ts'
import type { AgentFeeds } from '../push/agent-feeds.ts'
import type { Convergence, ConvergenceState } from '../push/convergence.ts'
import type { ProgressReporter } from '../push/progress-reporter.ts'
import type { LeaseKeeper } from '../replication/lease-keeper.ts'
import type { Replica } from '../replication/replica.ts'
import type { StandAside } from '../replication/stand-aside.ts'
import { statusWarnings } from './status-warnings.ts'

export interface ClusterDeps {
  readonly trustDomain: TrustDomain
  readonly replicaId: string
  readonly store: Datastore
  readonly replica: Replica
  readonly authorities: Authorities
  readonly convergence: Convergence
  readonly progress: ProgressReporter
  readonly feeds: AgentFeeds
  readonly aside: StandAside
  readonly lease: LeaseKeeper
  readonly leaseName: string
  readonly clock: Clock
}

/** What other replicas' agents acknowledge is found by looking. */
const lookEveryMs = 100
/** An agent that connected to another replica a moment ago may not be known here yet: who seems absent is looked for once more. */
const settleMs = 300
const defaultTimeoutMs = 30_000
const longestTimeoutMs = 600_000
const mostIds = 1_000
const longestAsideMs = 300_000
/** A replica that has not reported for so long after the latest report is not counted on. */
const silentMs = 10_000

/** `assay.server.v1.Cluster`: for operators. */
export function clusterHandlers (deps: ClusterDeps): ClusterHandlers<CallContext> {
  return {
    getStatus: () => status(deps),
    watchConvergence: (request, context) => watch(request, context, deps),
    standAside: request => standAside(request, deps)
  }
}

/** As the database has it now: what a command at another replica has changed is seen here. */
async function status (deps: ClusterDeps): Promise<GetStatusResponseInit> {
  const { trustDomain, replicaId, store, replica, authorities, aside, leaseName } = deps
  await replica.catchUp()
  const [replicas, lease, head, endangered] = await Promise.all([
    store.replicas.list(), store.leases.get(leaseName), store.log.head(), store.warnings()
  ])
  return {
    trustDomain,
    replicaId,
    replicas: replicas.map(stored => encodeReplica(stored, stored.id === replicaId ? { asideMs: aside.remainingMs } : {})),
    leaseHolder: lease?.holder,
    leaseToken: lease?.token,
    leaseExpiresAt: lease?.expiresAt.getTime(),
    head: encodeCursor(head),
    authorities: encodeAuthorities(authorities),
    sharedAuthorities: authorities.shared,
    bundleSequence: authorities.ca.bundle.value.sequenceNumber,
    datastore: store.kind,
    warnings: [...statusWarnings({
      replicas,
      lease,
      sharedAuthorities: authorities.shared,
      active: new Map(kindsInUse(authorities).map(kind => [kind, authorities.ca.slots(kind).records.active])),
      replicaId,
      nudged: replica.nudged,
      maxStaleMs: replica.maxStaleMs,
      now: deps.clock.now()
    }), ...endangered]
  }
}

/** @param now what is known of it better than its last report says */
function encodeReplica (
  { id, name, version, startedAt, seenAt, cursor, facts }: StoredReplica, now: { readonly asideMs?: number }
): ReplicaInit {
  const number = (value: unknown) => typeof value === 'number' ? value : 0
  return {
    id,
    name,
    version,
    startedAt: startedAt.getTime(),
    seenAt: seenAt.getTime(),
    cursor: encodeCursor(cursor),
    address: typeof facts['address'] === 'string' ? facts['address'] : '',
    staleMs: number(facts['staleMs']),
    nudged: facts['nudged'] === true,
    agents: number(facts['agents']),
    asideMs: now.asideMs ?? number(facts['asideMs'])
  }
}

function kindsInUse ({ ca }: Authorities): AuthorityKind[] { return ca.jwtDisabled ? ['x509'] : ['x509', 'jwt'] }

function encodeAuthorities (authorities: Authorities): AuthorityInit[] {
  return kindsInUse(authorities).flatMap(kind => {
    const { active, prepared, old } = authorities.ca.slots(kind).records
    return [active, prepared, old].flatMap(record => record === undefined ? [] : [{
      kind, authorityId: record.authorityId, state: record.state, expiresAt: Math.floor(record.notAfter.getTime() / 1000)
    }])
  })
}

async function * watch (request: WatchConvergenceRequest, { signal }: CallContext, deps: ClusterDeps): AsyncGenerator<ConvergenceInit> {
  const { replica, convergence, progress, store, clock } = deps
  if (request.entryIds.length > mostIds) throw new SpiffeError('argument_invalid', `more than ${mostIds} entries in one question`)
  const cursor = decodeCursor(request.cursor) ?? await store.log.head()
  const question = { cursor, since: decodeCursor(request.since), entryIds: request.entryIds, services: request.services,
    policies: request.policies }
  const asked = Number(request.timeoutMs)
  const startedMs = clock.monotonicMs()
  const until = startedMs + Math.min(longestTimeoutMs, asked > 0 ? asked : defaultTimeoutMs)
  await replica.catchUp()
  for (let last = ''; ;) {
    const state = await convergence.state(question)
    const message = encodeState(cursor, state)
    const text = JSON.stringify(state)
    if (text !== last) yield message
    last = text
    const settled = clock.monotonicMs() - startedMs >= settleMs || state.consumers.every(({ state }) => state !== 'absent')
    if ((state.converged && settled) || request.once || clock.monotonicMs() >= until) return
    await nap(progress, clock, signal)
  }
}

/** @throws {SpiffeError} `replica_needed` when agents and chores would be nobody's; `argument_invalid` */
async function standAside (
  { durationMs }: StandAsideRequest, { replicaId, store, aside, lease, feeds }: ClusterDeps
): Promise<StandAsideResponseInit> {
  const forMs = Number(durationMs)
  if (forMs < 0 || forMs > longestAsideMs) throw new SpiffeError('argument_invalid', `duration_ms must be from 0 to ${longestAsideMs}`)
  if (forMs === 0) {
    aside.end()
    return { replicaId, agentIds: [] }
  }
  const replicas = await store.replicas.list()
  const latestMs = Math.max(...replicas.map(({ seenAt }) => seenAt.getTime()))
  const ready = replicas.filter(({ id, seenAt, facts }) => id !== replicaId && !(Number(facts['asideMs'] ?? 0) > 0) &&
    latestMs - seenAt.getTime() < silentMs)
  if (ready.length === 0) throw new SpiffeError('replica_needed', 'no other replica could take agents and chores over')
  aside.begin(forMs)
  const agentIds = feeds.endAll(new SpiffeError('replica_aside', 'this replica stands aside: turn to another one'))
  await lease.leave()
  return { replicaId, agentIds }
}

function encodeState (cursor: Cursor, { consumers, converged }: ConvergenceState): ConvergenceInit {
  return {
    cursor: encodeCursor(cursor),
    converged,
    consumers: consumers.map(({ cursor, proved, seenAt, ...consumer }) => ({
      ...consumer, cursor: cursor && encodeCursor(cursor), provedCursor: proved && encodeCursor(proved), seenAt: seenAt?.getTime()
    }))
  }
}

/** Until this replica's agents said something, or long enough for others' to have. */
async function nap (progress: ProgressReporter, clock: Clock, signal: AbortSignal): Promise<void> {
  const rest = new AbortController()
  const told = Promise.withResolvers<void>()
  const stop = progress.onReported(() => told.resolve())
  try {
    await Promise.race([told.promise, clock.sleep(lookEveryMs, AbortSignal.any([signal, rest.signal])).catch(() => {})])
  } finally {
    stop()
    rest.abort()
  }
  signal.throwIfAborted()
}
