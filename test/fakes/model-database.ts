import type { Agent } from '../../src/spiffe/agent.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import type { Entry } from '../../src/spiffe/entry.ts'
import type { FederationRelationship } from '../../src/spiffe/federation-relationship.ts'
import type { ServiceEndpoint } from '../../src/spiffe/service-endpoint.ts'
import type { Service } from '../../src/spiffe/service.ts'
import type { Revocation } from '../../src/spiffe/revocation.ts'
import type { SpiffeId } from '../../src/spiffe/spiffe-id.ts'
import type { TrustDomain } from '../../src/spiffe/trust-domain.ts'
import type { ChangedState, ChangeLog, Cursor, LogReading } from '../../src/storage/change-log.ts'
import type { Datastore } from '../../src/storage/datastore.ts'
import { LocalNudges } from '../../src/storage/nudges.ts'
import type { ChangeKey } from '../../src/storage/sql/change-set.ts'
import { isLost, partOf, type LogRow } from '../../src/storage/sql/log-reading.ts'

/** All that is committed; never changed, only replaced. */
export interface Committed {
  readonly epoch: string
  readonly number: number
  readonly compacted: number
  readonly log: readonly LogRow[]
  readonly entries: ReadonlyMap<string, Entry>
  readonly agents: ReadonlyMap<SpiffeId, Agent>
  readonly bundles: ReadonlyMap<TrustDomain, Bundle>
  readonly federation: ReadonlyMap<TrustDomain, FederationRelationship>
  readonly services: ReadonlyMap<string, Service>
  readonly endpoints: ReadonlyMap<string, ServiceEndpoint>
  readonly revocations: ReadonlyMap<string, Revocation>
}

/** What a transaction writes; `undefined` removes. */
export interface ModelChange {
  readonly entries?: ReadonlyMap<string, Entry | undefined>
  readonly agents?: ReadonlyMap<SpiffeId, Agent | undefined>
  readonly bundles?: ReadonlyMap<TrustDomain, Bundle | undefined>
  readonly federation?: ReadonlyMap<TrustDomain, FederationRelationship | undefined>
  readonly services?: ReadonlyMap<string, Service | undefined>
  readonly endpoints?: ReadonlyMap<string, ServiceEndpoint | undefined>
  readonly revocations?: ReadonlyMap<string, Revocation | undefined>
  readonly authorities?: boolean
  readonly everything?: boolean
}

/** Gives each statement its turn: it may wait, and may fail. */
export type TakeTurn = <T>(statement: () => T) => Promise<T>

export interface ModelFaults {
  /** The rows that a reading names are read later than the log. */
  readonly noSnapshot?: boolean
  /** Readers are not told that what follows their place is forgotten. */
  readonly compactionUnnoticed?: boolean
}

/** The database as the protocol of the change log sees it: what is committed, a statement at a time, snapshots. */
export class ModelDatabase {
  committed: Committed = {
    epoch: 'e0', number: 0, compacted: 0, log: [], entries: new Map(), agents: new Map(), bundles: new Map(),
    federation: new Map(), services: new Map(), endpoints: new Map(), revocations: new Map()
  }

  readonly nudges = new LocalNudges()
  nudged = true
  /** Numbers per reading. */
  mostAtOnce = 1_000
  faults: ModelFaults = {}
  /** Statements of all readers so far. */
  statements = 0

  /** Commits at the next number, or at one that was taken before. */
  commit (change: ModelChange, number = this.committed.number + 1): Cursor {
    const { committed } = this
    this.committed = {
      ...committed,
      number: Math.max(number, committed.number),
      log: [...committed.log, { number, keys: keysOf(change) }].toSorted((a, b) => a.number - b.number),
      entries: applied(committed.entries, change.entries),
      agents: applied(committed.agents, change.agents),
      bundles: applied(committed.bundles, change.bundles),
      federation: applied(committed.federation, change.federation),
      services: applied(committed.services, change.services),
      endpoints: applied(committed.endpoints, change.endpoints),
      revocations: applied(committed.revocations, change.revocations)
    }
    return this.head
  }

  get head (): Cursor { return { epoch: this.committed.epoch, number: this.committed.number } }

  compact (upTo: number): void {
    const { committed } = this
    if (upTo <= committed.compacted) return
    this.committed = { ...committed, compacted: upTo, log: committed.log.filter(({ number }) => number > upTo) }
  }

  /** As after a restore, or when a standby took over. */
  setBack (to: Committed, epoch: string): void { this.committed = { ...to, epoch } }

  /** What a replica uses of a datastore, its statements taking turns. */
  storeFor (turn: TakeTurn = async statement => statement(), nudges: LocalNudges = this.nudges): Datastore {
    const statement: TakeTurn = run => {
      this.statements++
      return turn(run)
    }
    const store = {
      kind: 'postgres',
      log: this.#logFor(statement, nudges),
      entries: { all: () => rowByRow(() => this.committed.entries, statement) },
      federation: { list: () => statement(() => ({ relationships: [...this.committed.federation.values()], nextPageToken: '' })) },
      policies: { active: () => statement(() => undefined) },
      revocations: { list: () => statement(() => [...this.committed.revocations.values()]) },
      agents: { all: () => rowByRow(() => this.committed.agents, statement) },
      services: { all: () => rowByRow(() => this.committed.services, statement) },
      endpoints: { all: () => rowByRow(() => this.committed.endpoints, statement) },
      bundles: {
        get: (domain: TrustDomain) => statement(() => this.committed.bundles.get(domain)),
        list: () => statement(() => ({ bundles: [...this.committed.bundles.values()], nextPageToken: '' }))
      }
    }
    return store as unknown as Datastore
  }

  #logFor (statement: TakeTurn, nudges: LocalNudges): ChangeLog {
    const read = async (after: Cursor): Promise<LogReading> => {
      const before = await statement(() => this.#headNow())
      if (isLost(after, before)) return { kind: 'lost' }
      if (after.number === before.number) return { kind: 'changes', cursor: after, state: stateOf(this.committed, []), more: false }
      // The first statement of a transaction takes its snapshot.
      const { snapshot, head } = await statement(() => ({ snapshot: this.committed, head: this.#headNow() }))
      if (isLost(after, head)) return { kind: 'lost' }
      const rows = await statement(() => snapshot.log.filter(({ number }) => number > after.number).slice(0, this.mostAtOnce))
      const part = partOf(rows, after, head)
      if (part === undefined) return { kind: 'lost' }
      const { cursor, keys, more } = part
      const state = await statement(() => stateOf(this.faults.noSnapshot === true ? this.committed : snapshot, keys))
      return { kind: 'changes', cursor, state, more }
    }
    const isNudged = () => this.nudged
    return {
      head: () => statement(() => this.head),
      read,
      prune: async () => {},
      onNudge: listener => nudges.on(listener),
      run: signal => new Promise(resolve => { signal.addEventListener('abort', () => resolve(), { once: true }) }),
      get nudged () { return isNudged() }
    }
  }

  #headNow () {
    const { epoch, number, compacted } = this.committed
    return { epoch, number, compacted: this.faults.compactionUnnoticed === true ? 0 : compacted }
  }
}

function keysOf (change: ModelChange): ChangeKey[] {
  const { entries, agents, bundles, federation, services, endpoints, revocations, authorities, everything } = change
  if (everything === true) return [['everything']]
  return [
    ...[...entries?.keys() ?? []].map(key => ['entry', key] as const),
    ...[...agents?.keys() ?? []].map(key => ['agent', key] as const),
    ...[...bundles?.keys() ?? []].map(key => ['bundle', key] as const),
    ...[...federation?.keys() ?? []].map(key => ['federation', key] as const),
    ...[...services?.keys() ?? []].map(key => ['service', key] as const),
    ...[...endpoints?.keys() ?? []].map(key => ['endpoint', key] as const),
    ...[...revocations?.keys() ?? []].map(key => ['revocation', key] as const),
    ...authorities === true ? [['authorities'] as const] : []
  ]
}

function stateOf (from: Committed, keys: readonly ChangeKey[]): ChangedState {
  const rows = <K extends string, V>(kind: ChangeKey[0], table: ReadonlyMap<K, V>) =>
    new Map(keys.flatMap(([of, key]) => of === kind && key !== undefined ? [[key as K, table.get(key as K)] as const] : []))
  return {
    entries: rows('entry', from.entries),
    agents: rows('agent', from.agents),
    bundles: rows('bundle', from.bundles),
    federation: rows('federation', from.federation),
    services: rows('service', from.services),
    endpoints: rows('endpoint', from.endpoints),
    revocations: rows('revocation', from.revocations),
    authorities: keys.some(([kind]) => kind === 'authorities')
  }
}

function applied<K, V> (rows: ReadonlyMap<K, V>, change: ReadonlyMap<K, V | undefined> | undefined): ReadonlyMap<K, V> {
  if (change === undefined || change.size === 0) return rows
  const after = new Map(rows)
  for (const [key, value] of change) {
    if (value === undefined) after.delete(key)
    else after.set(key, value)
  }
  return after
}

/** Each row in a statement of its own, in the order of their keys: what is written meanwhile is seen or not. */
async function * rowByRow<V> (rows: () => ReadonlyMap<string, V>, statement: TakeTurn): AsyncGenerator<V> {
  for (let after = ''; ;) {
    const next = await statement(() => {
      const key = [...rows().keys()].filter(key => key > after).toSorted()[0]
      return key === undefined ? undefined : { key, row: rows().get(key) as V }
    })
    if (next === undefined) return
    yield next.row
    after = next.key
  }
}
