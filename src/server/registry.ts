import type { Entry } from '../spiffe/entry.ts'
import { formatSelector, isSubset, type Selector } from '../spiffe/selector.ts'
import { spiffeIdOf, type SpiffeId } from '../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import { EntryGroups } from './entry-groups.ts'

/** An agent as far as authorization of entries goes. */
export interface AgentView { readonly id: SpiffeId, readonly selectors: readonly Selector[] }

export interface RegistryChange {
  /** By id; `undefined`: removed. */
  readonly entries: ReadonlyMap<string, Entry | undefined>
  readonly agents: ReadonlyMap<SpiffeId, AgentView | undefined>
}

/** What a change means to one agent: it gained, lost or must renew these entries at most; or `all` must be compared. */
export type Touched = ReadonlySet<string> | 'all'

interface KnownAgent {
  readonly selectors: readonly Selector[]
  readonly present: ReadonlySet<string>
  /** Remembered until a change touches it. */
  authorized: readonly Entry[] | undefined
}

/**
 * All registration entries and agents in memory, indexed by what the hot path asks: which entries may this agent serve, and is this one
 * among them. Entries whose parent is `/spire/server` are node aliases: they give an agent a further ID and are not served themselves.
 * The cost of a change follows the agents it touches, not the agents there are.
 */
export class Registry {
  readonly #serverId: SpiffeId
  readonly #byId = new Map<string, Entry>()
  readonly #byParent = new EntryGroups<SpiffeId>()
  readonly #bySpiffeId = new EntryGroups<SpiffeId>()
  /** Node aliases by their first selector, so that an agent only looks at aliases that could apply to it. */
  readonly #aliasesBySelector = new EntryGroups<string>()
  readonly #agents = new Map<SpiffeId, KnownAgent>()
  readonly #agentsBySelector = new Map<string, Set<SpiffeId>>()

  constructor (trustDomain: TrustDomain) { this.#serverId = spiffeIdOf(trustDomain, '/spire/server') }

  get size (): number { return this.#byId.size }

  get (id: string): Entry | undefined { return this.#byId.get(id) }
  ids (): Iterable<string> { return this.#byId.keys() }
  agentIds (): Iterable<SpiffeId> { return this.#agents.keys() }

  /** Takes a change over. @returns whom it touches, among the agents that are there before or after it */
  apply ({ entries, agents }: RegistryChange): ReadonlyMap<SpiffeId, Touched> {
    const touched = new Map<SpiffeId, Set<string> | 'all'>()
    const touch = (id: string, entry: Entry) => {
      const structural = this.#isAlias(entry) || this.#byParent.has(entry.spiffeId)
      for (const agent of this.#agentsOf(entry)) {
        const before = touched.get(agent)
        if (structural) touched.set(agent, 'all')
        else if (before === undefined) touched.set(agent, new Set([id]))
        else if (before !== 'all') before.add(id)
      }
    }
    // Over the tree as it was, then over the tree as it is: between the two, parents may come and go in any order.
    for (const id of entries.keys()) {
      const before = this.#byId.get(id)
      if (before !== undefined) touch(id, before)
    }
    for (const [id, entry] of entries) {
      this.#unlink(id)
      if (entry !== undefined) this.#link(entry)
    }
    for (const [id, agent] of agents) if (this.#setAgent(id, agent)) touched.set(id, 'all')
    for (const [id, entry] of entries) if (entry !== undefined) touch(id, entry)
    for (const id of touched.keys()) {
      const agent = this.#agents.get(id)
      if (agent !== undefined) agent.authorized = undefined
    }
    return touched
  }

  put (entries: readonly Entry[]): ReadonlyMap<SpiffeId, Touched> {
    return this.apply({ entries: new Map(entries.map(entry => [entry.id, entry])), agents: new Map() })
  }

  remove (ids: readonly string[]): ReadonlyMap<SpiffeId, Touched> {
    return this.apply({ entries: new Map(ids.map(id => [id, undefined])), agents: new Map() })
  }

  /** Entries the agent may serve: those below its ID and its aliases, and below their IDs in turn. In the order of their ids. */
  authorizedEntries (agent: AgentView): readonly Entry[] {
    const known = this.#agents.get(agent.id)
    if (known?.selectors !== agent.selectors) return this.#crawl(agent)
    return known.authorized ??= this.#crawl(agent)
  }

  /** Whether one entry is among the agent's, found by climbing its parents: independent of how many entries the agent has. */
  isAuthorized (agent: AgentView, entry: Entry): boolean {
    if (this.#isAlias(entry)) return false
    const roots = new Set<SpiffeId>([agent.id, ...this.#aliasesOf(agent).map(alias => alias.spiffeId)])
    for (const parent of this.#ancestors(entry.parentId)) if (roots.has(parent)) return true
    return false
  }

  /** Whether any entry with this ID carries a right; admin and downstream callers are known by their entries. */
  someEntry (id: SpiffeId, test: (entry: Entry) => boolean): boolean {
    for (const entry of this.#bySpiffeId.of(id)) if (test(entry)) return true
    return false
  }

  /** Agents that may serve an entry; for an alias, those it gives a further ID. None for an unknown id. */
  agentsOf (id: string): Iterable<SpiffeId> {
    const entry = this.#byId.get(id)
    return entry === undefined ? [] : this.#agentsOf(entry)
  }

  * #agentsOf (entry: Entry): Generator<SpiffeId> {
    if (entry.parentId === this.#serverId) {
      yield * this.#agentsMatching(entry.selectors)
      return
    }
    if (isJoinTokenAlias(entry)) {
      if (this.#agents.has(entry.parentId)) yield entry.parentId
      return
    }
    for (const id of this.#ancestors(entry.parentId)) {
      if (this.#agents.has(id)) yield id
      for (const above of this.#bySpiffeId.of(id)) {
        if (above.parentId === this.#serverId) yield * this.#agentsMatching(above.selectors)
        else if (isJoinTokenAlias(above) && this.#agents.has(above.parentId)) yield above.parentId
      }
    }
  }

  /** An ID and all it lies below, by way of entries that are no aliases; each once. */
  * #ancestors (id: SpiffeId): Generator<SpiffeId> {
    const seen = new Set<SpiffeId>()
    for (const open = [id]; open.length > 0;) {
      const next = open.pop() as SpiffeId
      if (seen.has(next)) continue
      seen.add(next)
      yield next
      for (const above of this.#bySpiffeId.of(next)) if (!this.#isAlias(above)) open.push(above.parentId)
    }
  }

  * #agentsMatching (selectors: readonly Selector[]): Generator<SpiffeId> {
    for (const id of this.#agentsBySelector.get(firstKey(selectors)) ?? []) {
      if (isSubset(selectors, (this.#agents.get(id) as KnownAgent).present)) yield id
    }
  }

  #crawl (agent: AgentView): readonly Entry[] {
    const found = new Map<string, Entry>()
    const seen = new Set<SpiffeId>()
    for (const parents = [agent.id, ...this.#aliasesOf(agent).map(alias => alias.spiffeId)]; parents.length > 0;) {
      const parent = parents.pop() as SpiffeId
      if (seen.has(parent)) continue
      seen.add(parent)
      for (const entry of this.#byParent.of(parent)) {
        if (this.#isAlias(entry)) continue
        found.set(entry.id, entry)
        parents.push(entry.spiffeId)
      }
    }
    return [...found.values()].toSorted((a, b) => a.id < b.id ? -1 : 1)
  }

  #aliasesOf (agent: AgentView): Entry[] {
    const present = new Set(agent.selectors.map(formatSelector))
    const aliases = [...this.#byParent.of(agent.id)].filter(isJoinTokenAlias)
    for (const key of present) {
      for (const alias of this.#aliasesBySelector.of(key)) if (isSubset(alias.selectors, present)) aliases.push(alias)
    }
    return aliases
  }

  #isAlias (entry: Entry): boolean {
    return entry.parentId === this.#serverId || isJoinTokenAlias(entry)
  }

  #link (entry: Entry): void {
    this.#byId.set(entry.id, entry)
    this.#byParent.add(entry.parentId, entry)
    this.#bySpiffeId.add(entry.spiffeId, entry)
    if (entry.parentId === this.#serverId) this.#aliasesBySelector.add(firstKey(entry.selectors), entry)
  }

  #unlink (id: string): void {
    const entry = this.#byId.get(id)
    if (entry === undefined) return
    this.#byId.delete(id)
    this.#byParent.remove(entry.parentId, id)
    this.#bySpiffeId.remove(entry.spiffeId, id)
    if (entry.parentId === this.#serverId) this.#aliasesBySelector.remove(firstKey(entry.selectors), id)
  }

  /** @returns whether the agent may serve other entries than before */
  #setAgent (id: SpiffeId, agent: AgentView | undefined): boolean {
    const before = this.#agents.get(id)
    const present = new Set(agent?.selectors.map(formatSelector))
    if (before !== undefined && agent !== undefined && before.present.symmetricDifference(present).size === 0) {
      this.#agents.set(id, { selectors: agent.selectors, present: before.present, authorized: before.authorized })
      return false
    }
    for (const key of before?.present ?? []) {
      const group = this.#agentsBySelector.get(key)
      group?.delete(id)
      if (group?.size === 0) this.#agentsBySelector.delete(key)
    }
    if (agent === undefined) return this.#agents.delete(id)
    this.#agents.set(id, { selectors: agent.selectors, present, authorized: undefined })
    for (const key of present) {
      const group = this.#agentsBySelector.get(key)
      if (group === undefined) this.#agentsBySelector.set(key, new Set([id]))
      else group.add(id)
    }
    return true
  }
}

/** The entry `CreateJoinToken` makes for `agent_id`: parent and only selector name the join-token agent. */
export function isJoinTokenAlias (entry: Entry): boolean {
  const [selector, ...more] = entry.selectors
  return more.length === 0 && selector?.type === 'spiffe_id' && selector.value === entry.parentId
}

function firstKey (selectors: readonly Selector[]): string {
  return formatSelector(selectors[0] ?? { type: '', value: '' })
}
