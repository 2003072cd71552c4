import type { Entry } from '../spiffe/entry.ts'
import { formatSelector, type Selector } from '../spiffe/selector.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'

/** An agent as far as authorization of entries goes. */
export interface AgentView { readonly id: SpiffeId, readonly selectors: readonly Selector[] }

interface Alias {
  readonly entry: Entry
  /** What an agent must have, as `formatSelector` writes it. */
  readonly keys: readonly string[]
  readonly agents: Set<KnownAgent>
}

interface KnownAgent {
  readonly id: SpiffeId
  selectors: readonly Selector[]
  readonly present: ReadonlySet<string>
  readonly aliases: Set<Alias>
  /** Made when first asked for. */
  roots: ReadonlySet<SpiffeId> | undefined
}

/**
 * Which agents there are, and which node aliases give each of them a further ID: entries whose parent is `/spire/server`, for all agents
 * that have their selectors, and those that `CreateJoinToken` makes for one. Kept as a relation, so that neither side searches the other.
 */
export class NodeAliases {
  readonly #serverId: SpiffeId
  readonly #agents = new Map<SpiffeId, KnownAgent>()
  readonly #agentsBySelector = new Map<string, Set<KnownAgent>>()
  /** By the id of the entry. */
  readonly #aliases = new Map<string, Alias>()
  /** Each under one of its selectors, the one that had the fewest: what a whole cluster shares says nothing. */
  readonly #aliasesBySelector = new Map<string, Set<Alias>>()
  readonly #placeOf = new Map<Alias, string>()
  readonly #joinTokenAliases = new Map<SpiffeId, Set<Alias>>()

  constructor (serverId: SpiffeId) { this.#serverId = serverId }

  get agentIds (): Iterable<SpiffeId> { return this.#agents.keys() }
  get agentCount (): number { return this.#agents.size }
  has (agent: SpiffeId): boolean { return this.#agents.has(agent) }

  isAlias (entry: Entry): boolean { return entry.parentId === this.#serverId || isJoinTokenAlias(entry) }

  /** Agents to which an alias gives an ID; none for what is not known here. */
  * agentsOf (entryId: string): Generator<SpiffeId> {
    for (const { id } of this.#aliases.get(entryId)?.agents ?? []) yield id
  }

  /** The agent's own ID and those of its aliases: whatever lies below one of them it may serve. */
  rootsOf (agent: AgentView): ReadonlySet<SpiffeId> {
    const known = this.#known(agent)
    if (known !== undefined) return known.roots ??= rootsOf(known.id, known.aliases)
    return rootsOf(agent.id, this.#matching(agent.id, new Set(agent.selectors.map(formatSelector))))
  }

  /** Whether the agent is known as it is given. */
  knows (agent: AgentView): boolean { return this.#known(agent) !== undefined }

  /** Takes over an entry that is an alias. */
  add (entry: Entry): void {
    const alias: Alias = { entry, keys: entry.selectors.map(formatSelector), agents: new Set() }
    this.#aliases.set(entry.id, alias)
    if (entry.parentId !== this.#serverId) {
      addTo(this.#joinTokenAliases, entry.parentId, alias)
      const agent = this.#agents.get(entry.parentId)
      if (agent !== undefined) relate(alias, agent)
      return
    }
    const place = leastOf(alias.keys, this.#aliasesBySelector) ?? ''
    this.#placeOf.set(alias, place)
    addTo(this.#aliasesBySelector, place, alias)
    const rarest = leastOf(alias.keys, this.#agentsBySelector)
    for (const agent of this.#agentsBySelector.get(rarest ?? '') ?? []) if (applies(alias, agent.present)) relate(alias, agent)
  }

  remove (entryId: string): void {
    const alias = this.#aliases.get(entryId)
    if (alias === undefined) return
    this.#aliases.delete(entryId)
    if (alias.entry.parentId === this.#serverId) {
      removeFrom(this.#aliasesBySelector, this.#placeOf.get(alias) ?? '', alias)
      this.#placeOf.delete(alias)
    } else {
      removeFrom(this.#joinTokenAliases, alias.entry.parentId, alias)
    }
    for (const agent of alias.agents) {
      agent.aliases.delete(alias)
      agent.roots = undefined
    }
  }

  /** @param agent `undefined`: it is gone. @returns whether it may serve other entries than before */
  setAgent (id: SpiffeId, agent: AgentView | undefined): boolean {
    const before = this.#agents.get(id)
    const present = new Set(agent?.selectors.map(formatSelector))
    if (before !== undefined && agent !== undefined && before.present.symmetricDifference(present).size === 0) {
      before.selectors = agent.selectors
      return false
    }
    if (before !== undefined) this.#forget(before)
    if (agent === undefined) return before !== undefined
    const known: KnownAgent = { id, selectors: agent.selectors, present, aliases: new Set(), roots: undefined }
    this.#agents.set(id, known)
    for (const key of present) addTo(this.#agentsBySelector, key, known)
    for (const alias of this.#matching(id, present)) relate(alias, known)
    return true
  }

  #forget (agent: KnownAgent): void {
    this.#agents.delete(agent.id)
    for (const key of agent.present) removeFrom(this.#agentsBySelector, key, agent)
    for (const alias of agent.aliases) alias.agents.delete(agent)
  }

  #known (agent: AgentView): KnownAgent | undefined {
    const known = this.#agents.get(agent.id)
    return known?.selectors === agent.selectors ? known : undefined
  }

  * #matching (id: SpiffeId, present: ReadonlySet<string>): Generator<Alias> {
    for (const alias of this.#joinTokenAliases.get(id) ?? []) yield alias
    for (const key of present) {
      for (const alias of this.#aliasesBySelector.get(key) ?? []) if (applies(alias, present)) yield alias
    }
  }
}

/** The entry `CreateJoinToken` makes for `agent_id`: parent and only selector name the join-token agent. */
function isJoinTokenAlias (entry: Entry): boolean {
  const [selector, ...more] = entry.selectors
  return more.length === 0 && selector?.type === 'spiffe_id' && selector.value === entry.parentId
}

function rootsOf (id: SpiffeId, aliases: Iterable<Alias>): ReadonlySet<SpiffeId> {
  const roots = new Set([id])
  for (const { entry } of aliases) roots.add(entry.spiffeId)
  return roots
}

function applies (alias: Alias, present: ReadonlySet<string>): boolean {
  return alias.keys.every(key => present.has(key))
}

function relate (alias: Alias, agent: KnownAgent): void {
  alias.agents.add(agent)
  agent.aliases.add(alias)
  agent.roots = undefined
}

/** The key whose group is the smallest. */
function leastOf<Key, Member> (keys: readonly Key[], groups: ReadonlyMap<Key, ReadonlySet<Member>>): Key | undefined {
  let least: Key | undefined
  let size = Number.POSITIVE_INFINITY
  for (const key of keys) {
    const of = groups.get(key)?.size ?? 0
    if (of < size) [least, size] = [key, of]
  }
  return least
}

function addTo<Key, Member> (groups: Map<Key, Set<Member>>, key: Key, member: Member): void {
  const group = groups.get(key)
  if (group === undefined) groups.set(key, new Set([member]))
  else group.add(member)
}

function removeFrom<Key, Member> (groups: Map<Key, Set<Member>>, key: Key, member: Member): void {
  const group = groups.get(key)
  group?.delete(member)
  if (group?.size === 0) groups.delete(key)
}
