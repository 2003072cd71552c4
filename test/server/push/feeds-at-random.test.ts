import fc from 'fast-check'
import t from 'tap'
import { Registry } from '../../../src/server/registry.ts'
import type { Agent } from '../../../src/spiffe/agent.ts'
import type { Entry } from '../../../src/spiffe/entry.ts'
import type { Revocation } from '../../../src/spiffe/revocation.ts'
import type { TrustDomain } from '../../../src/spiffe/trust-domain.ts'
import type { Cursor } from '../../../src/storage/change-log.ts'
import { makeAgent } from '../../fakes/agents.ts'
import { idOf, makeEntry, type EntryOptions } from '../../fakes/entries.ts'
import { holds } from '../../fakes/holds.ts'
import { ModelDatabase, type Committed, type ModelChange } from '../../fakes/model-database.ts'
import { FollowingAgent, type PushReplica } from '../../fakes/push.ts'
import { bundle, nodes, one, openRig, own, x, y } from '../../fakes/feed-rig.ts'

/** What an agent must hold at a place of the log; `undefined` when it is not attested there. */
function dueAt ({ entries, agents, bundles, revocations }: Committed, id: Agent['id']): unknown {
  const agent = agents.get(id)
  if (agent === undefined) return undefined
  const registry = new Registry(own)
  const revokedIds = new Set([...revocations.values()].flatMap(({ kind, subject }) => kind === 'spiffe_id' ? [subject] : []))
  registry.apply({ entries, agents: new Map(), revokedIds })
  const due = registry.authorizedEntries(agent)
  const domains = [own, ...due.flatMap(entry => entry.federatesWith)]
  return {
    entries: new Map(due.map(entry => [entry.id, entry])),
    bundles: new Map([...new Set(domains)].toSorted().flatMap(domain => bundles.get(domain) ?? [])
      .map(found => [found.trustDomain, found])),
    revocations: new Map([...revocations].toSorted(([a], [b]) => a < b ? -1 : 1))
  }
}

function heldBy ({ entries, bundles, revocations }: FollowingAgent): unknown {
  const sorted = <K, V>(map: ReadonlyMap<K, V>) => new Map([...map].toSorted(([a], [b]) => a < b ? -1 : 1))
  return { entries: sorted(entries), bundles: sorted(bundles), revocations: sorted(revocations) }
}

type Action =
  | { readonly kind: 'entries', readonly of: ReadonlyArray<readonly [string, EntryOptions | undefined]> }
  | { readonly kind: 'agent', readonly agent: number, readonly selectors: readonly string[] | undefined }
  | { readonly kind: 'bundle', readonly domain: TrustDomain, readonly remove: boolean }
  | { readonly kind: 'revocation', readonly id: string, readonly of: 'svid' | 'spiffe_id' | 'node' | undefined, readonly path: string }
  | { readonly kind: 'catchUp' | 'everything' | 'compact' | 'restore', readonly replica: number }
  | { readonly kind: 'connect', readonly agent: number, readonly replica: number }
  | { readonly kind: 'disconnect' | 'take' | 'forget', readonly agent: number }

const replicaCount = 3
const agent = fc.nat(nodes.length - 1)
const replica = fc.nat(replicaCount - 1)
const paths = ['/a', '/b', '/c']
const entryIds = ['1', '2', '3', '4', '5', '6']

const anEntry: fc.Arbitrary<EntryOptions> = fc.record({
  spiffeId: fc.constantFrom(...paths),
  parentId: fc.constantFrom(...paths, '/spire/server', ...nodes),
  selectors: fc.subarray(['x:a', 'x:b', `spiffe_id:${one}`], { minLength: 1 }),
  federatesWith: fc.subarray([x, y])
})

const action: fc.Arbitrary<Action> = fc.oneof(
  { weight: 8, arbitrary: fc.record({
    kind: fc.constant('entries' as const),
    of: fc.array(fc.tuple(fc.constantFrom(...entryIds), fc.option(anEntry, { nil: undefined })), { minLength: 1, maxLength: 3 })
  }) },
  { weight: 2, arbitrary: fc.record({
    kind: fc.constant('agent' as const), agent, selectors: fc.option(fc.subarray(['x:a', 'x:b']), { nil: undefined, freq: 8 })
  }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('bundle' as const), domain: fc.constantFrom(own, x, y), remove: fc.boolean() }) },
  { weight: 4, arbitrary: fc.record({
    kind: fc.constant('revocation' as const), id: fc.constantFrom('r', 's', 't'),
    of: fc.constantFrom('svid' as const, 'spiffe_id' as const, 'node' as const, undefined), path: fc.constantFrom(...paths)
  }) },
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('catchUp' as const), replica }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('everything' as const, 'compact' as const, 'restore' as const), replica }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('connect' as const), agent, replica }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('disconnect' as const), agent }) },
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('take' as const), agent }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('forget' as const), agent }) }
)

/** A database, its replicas and their agents, and all that the log ever said. */
class World {
  readonly database: ModelDatabase
  readonly agents = nodes.map(id => new FollowingAgent(id, own))
  readonly #replicas: readonly PushReplica[]
  readonly #history = new Map<string, Committed>()
  #made = 0

  private constructor (database: ModelDatabase, replicas: readonly PushReplica[]) {
    this.database = database
    this.#replicas = replicas
    this.#remember()
  }

  static async open (): Promise<World> {
    const { database, replicas } = await openRig(replicaCount)
    database.mostAtOnce = 2
    return new World(database, replicas)
  }

  async act (action: Action): Promise<void> {
    const { database } = this
    const replica = 'replica' in action ? this.#replicas[action.replica] as PushReplica : undefined
    const agent = 'agent' in action ? this.agents[action.agent] as FollowingAgent : undefined
    if (action.kind === 'entries') this.#commit({ entries: this.#entries(action.of) })
    else if (action.kind === 'agent') this.#commit({ agents: new Map([this.#attested(action.agent, action.selectors)]) })
    else if (action.kind === 'bundle') this.#commit(this.#bundleChange(action.domain, action.remove))
    else if (action.kind === 'revocation') this.#commit({ revocations: new Map([[action.id, this.#revocation(action)]]) })
    else if (action.kind === 'catchUp') await replica?.replica.catchUp()
    else if (action.kind === 'everything') this.#commit({ ...this.#bundleChange(own, false), everything: true })
    else if (action.kind === 'compact') database.compact(database.head.number - (this.#made % 3))
    else if (action.kind === 'restore') this.#restore()
    else if (action.kind === 'disconnect') agent?.disconnect()
    else if (agent !== undefined && replica !== undefined) await this.#connect(agent, replica)
    else if (agent !== undefined && action.kind === 'forget') this.#forget(agent)
    else if (agent !== undefined) this.take(agent)
  }

  /** What is told is the state at the place that is told, whole and nothing else. */
  take (agent: FollowingAgent): void {
    const step = agent.take()
    if (step === undefined) return
    const state = this.#history.get(placeOf(step.cursor))
    if (state === undefined) throw new Error(`the log was never at ${placeOf(step.cursor)}`)
    const due = dueAt(state, agent.id)
    // The stream of an agent that was evicted ends, and the agent attests anew.
    if (due === undefined) this.#forget(agent)
    else compare(heldBy(agent), due, `at ${placeOf(step.cursor)}`)
  }

  /** Everybody hears of everything in the end. */
  async settle (): Promise<void> {
    for (const [index, agent] of this.agents.entries()) {
      for (const { replica } of this.#replicas) await replica.catchUp()
      if (!agent.connected) await this.#connect(agent, this.#replicas[index % replicaCount] as PushReplica)
      this.take(agent)
      const due = dueAt(this.database.committed, agent.id)
      if (due !== undefined) compare(heldBy(agent), due, `${agent.id} at the end`)
    }
  }

  async #connect (agent: FollowingAgent, replica: PushReplica): Promise<void> {
    await agent.connect(replica)
  }

  #forget (agent: FollowingAgent): void {
    agent.disconnect()
    agent.cursor = undefined
    agent.entries = new Map()
    agent.bundles = new Map()
    agent.revocations = new Map()
  }

  #commit (change: ModelChange): void {
    this.database.commit(change)
    this.#remember()
  }

  #remember (): void { this.#history.set(placeOf(this.database.head), this.database.committed) }

  #restore (): void {
    const states = [...this.#history.values()]
    this.database.setBack(states[this.#made % states.length] as Committed, `e${++this.#made}`)
    this.#remember()
  }

  #entries (of: ReadonlyArray<readonly [string, EntryOptions | undefined]>): ReadonlyMap<string, Entry | undefined> {
    const known = (domain: TrustDomain) => this.database.committed.bundles.has(domain)
    return new Map(of.map(([id, options]) => [id, options && makeEntry({
      ...options, id, hint: String(++this.#made), federatesWith: options.federatesWith?.filter(known) ?? []
    })]))
  }

  #revocation ({ id, of: kind, path }: Extract<Action, { readonly kind: 'revocation' }>): Revocation | undefined {
    const at = new Date(++this.#made)
    return kind && { id, kind, subject: idOf(path), certificateDigests: [], reason: '', revokedBy: '', revokedAt: at, expiresAt: at }
  }

  #attested (index: number, values: readonly string[] | undefined): [Agent['id'], Agent | undefined] {
    const id = nodes[index] as Agent['id']
    const selectors = values?.map(text => ({ type: 'x', value: text.slice(2) }))
    return [id, selectors && makeAgent(id, { selectors, serialNumber: String(++this.#made) })]
  }

  /** Nothing federates with a domain that has no bundle. */
  #bundleChange (domain: TrustDomain, remove: boolean): ModelChange {
    if (!remove || domain === own) return { bundles: new Map([[domain, bundle(domain, ++this.#made + 1)]]) }
    const linked = [...this.database.committed.entries.values()].filter(entry => entry.federatesWith.includes(domain))
    const entries = new Map(linked.map((entry): [string, Entry] => [entry.id, {
      ...entry, revisionNumber: entry.revisionNumber + 1, federatesWith: entry.federatesWith.filter(other => other !== domain)
    }]))
    return { entries, bundles: new Map([[domain, undefined]]) }
  }
}

function placeOf ({ epoch, number }: Cursor): string { return `${epoch}/${number}` }

function compare (held: unknown, due: unknown, where: string): void {
  const text = (value: unknown) => JSON.stringify(value, (_, part: unknown) =>
    part instanceof Map ? [...part] : typeof part === 'bigint' ? String(part) : part)
  if (text(held) !== text(due)) throw new Error(`${where}: held ${text(held)}, due ${text(due)}`)
}

void t.test('an agent holds exactly its authorized entries', { timeout: 120_000 }, async t => {
  const history = fc.array(action, { minLength: 5, maxLength: 60, size: 'max' })
  await holds(t, 'for any history of changes, disconnects and resumes at other replicas, each with its own', fc.asyncProperty(history,
    async actions => {
      const world = await World.open()
      for (const action of actions) await world.act(action)
      await world.settle()
    }), 400)
})
