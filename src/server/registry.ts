import type { Entry } from '../spiffe/entry.ts'
import { formatSelector, isSubset } from '../spiffe/selector.ts'
import { spiffeIdOf, type SpiffeId } from '../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import { EntryGroups } from './entry-groups.ts'
import { NodeAliases, type AgentView } from './node-aliases.ts'
import { Touches, type Affected, type Touched } from './touches.ts'

export interface RegistryChange {
  /** By id; `undefined`: removed. */
  readonly entries: ReadonlyMap<string, Entry | undefined>
  readonly agents: ReadonlyMap<SpiffeId, AgentView | undefined>
  /** All IDs that are revoked; absent: the same as before. */
  readonly revokedIds?: ReadonlySet<SpiffeId> | undefined
}

/** Where more entries than these lie below one that changes, agents compare all they have. */
const mostAffected = 1_000

/**
 * All registration entries and agents in memory, indexed by what the hot path asks: which entries may this agent serve, and is this one
 * among them. Entries whose parent is `/spire/server` are node aliases: they give an agent a further ID and are not served themselves.
 * Entries of a revoked ID are served to nobody; what lies below them is.
 * The cost of a change follows the agents it touches, not the agents there are.
 */
export class Registry {
  readonly #byId = new Map<string, Entry>()
  readonly #byParent = new EntryGroups<SpiffeId>()
  readonly #bySpiffeId = new EntryGroups<SpiffeId>()
  readonly #aliases: NodeAliases
  #revokedIds: ReadonlySet<SpiffeId> = new Set()
  /** Of known agents, until a change touches them. In the order of the entries' ids. */
  readonly #authorized = new Map<SpiffeId, readonly Entry[]>()

  constructor (trustDomain: TrustDomain) { this.#aliases = new NodeAliases(spiffeIdOf(trustDomain, '/spire/server')) }

  get size (): number { return this.#byId.size }

  get (id: string): Entry | undefined { return this.#byId.get(id) }
  ids (): Iterable<string> { return this.#byId.keys() }
  all (): Iterable<Entry> { return this.#byId.values() }
  agentIds (): Iterable<SpiffeId> { return this.#aliases.agentIds }

  /** Takes a change over. @returns whom it touches, among the agents that are there before or after it */
  apply ({ entries, agents, revokedIds = this.#revokedIds }: RegistryChange): ReadonlyMap<SpiffeId, Touched> {
    const touches = new Touches()
    // Over the tree as it was, then over the tree as it is: between the two, parents may come and go in any order.
    const replaced: Entry[] = []
    const stayed = new Set<Entry>()
    if (this.#byId.size > 0) {
      for (const [id, entry] of entries) {
        const before = this.#byId.get(id)
        if (before === undefined) continue
        const moves = this.#moves(before, entry)
        if (!moves && entry !== undefined) stayed.add(entry)
        this.#touch(before, moves, touches)
        replaced.push(before)
      }
    }
    for (const entry of replaced) this.#unlink(entry)
    for (const entry of entries.values()) if (entry !== undefined) this.#link(entry)
    let anew = 0
    for (const [id, agent] of agents) {
      if (!this.#aliases.setAgent(id, agent)) continue
      touches.add(id, 'all')
      if (agent !== undefined) anew++
    }
    // When all is loaded, everybody is touched already.
    if (anew < this.#aliases.agentCount) {
      for (const entry of entries.values()) if (entry !== undefined) this.#touch(entry, !stayed.has(entry), touches)
    }
    if (revokedIds !== this.#revokedIds) {
      const changed = revokedIds.symmetricDifference(this.#revokedIds)
      this.#revokedIds = revokedIds
      for (const id of changed) for (const entry of this.#bySpiffeId.of(id)) this.#touch(entry, false, touches)
    }
    const touched = touches.take()
    for (const id of touched.keys()) this.#authorized.delete(id)
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
    if (!this.#aliases.knows(agent)) return this.#crawl(agent)
    const known = this.#authorized.get(agent.id) ?? this.#crawl(agent)
    this.#authorized.set(agent.id, known)
    return known
  }

  /** Whether one entry is among the agent's, found by climbing its parents: independent of how many entries the agent has. */
  isAuthorized (agent: AgentView, entry: Entry): boolean { return this.authorizes(agent)(entry) }

  /** The same for many entries of one agent. Holds until the next change. */
  authorizes (agent: AgentView): (entry: Entry) => boolean {
    const roots = this.#aliases.rootsOf(agent)
    return entry => {
      if (this.#aliases.isAlias(entry) || this.#revokedIds.has(entry.spiffeId)) return false
      // The usual case.
      if (roots.has(entry.parentId)) return true
      for (const parent of this.#ancestors(entry.parentId)) if (roots.has(parent)) return true
      return false
    }
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

  #touch (entry: Entry, moves: boolean, touches: Touches): void {
    // An alias is not served: only what it leads to counts.
    if (!moves && this.#aliases.isAlias(entry)) return
    let affected: Affected | undefined
    for (const agent of this.#agentsOf(entry)) touches.add(agent, affected ??= moves ? this.#affectedBy(entry) : [entry.id])
  }

  /** Whether a change of an entry may change who serves what lies below it. */
  #moves (before: Entry, after: Entry | undefined): boolean {
    if (after === undefined || before.spiffeId !== after.spiffeId || before.parentId !== after.parentId) return true
    const isAlias = this.#aliases.isAlias(before)
    return isAlias !== this.#aliases.isAlias(after) || (isAlias && !hasSameSelectors(before, after))
  }

  /** What agents gain or lose by an entry that comes, goes or moves. */
  #affectedBy (entry: Entry): Affected {
    const isAlias = this.#aliases.isAlias(entry)
    if (!isAlias && !this.#byParent.has(entry.spiffeId)) return [entry.id]
    const ids = isAlias ? [] : [entry.id]
    for (const below of this.#descendants([entry.spiffeId])) {
      if (ids.length >= mostAffected) return 'all'
      ids.push(below.id)
    }
    return ids
  }

  /** Some twice. */
  * #agentsOf (entry: Entry): Generator<SpiffeId> {
    if (this.#aliases.isAlias(entry)) {
      yield * this.#aliases.agentsOf(entry.id)
      return
    }
    for (const id of this.#ancestors(entry.parentId)) {
      if (this.#aliases.has(id)) yield id
      for (const above of this.#bySpiffeId.of(id)) if (this.#aliases.isAlias(above)) yield * this.#aliases.agentsOf(above.id)
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
      for (const above of this.#bySpiffeId.of(next)) if (!this.#aliases.isAlias(above)) open.push(above.parentId)
    }
  }

  /** Entries below these IDs, each once; no aliases. */
  * #descendants (parents: Iterable<SpiffeId>): Generator<Entry> {
    const seen = new Set<SpiffeId>()
    for (const open = [...parents]; open.length > 0;) {
      const parent = open.pop() as SpiffeId
      if (seen.has(parent)) continue
      seen.add(parent)
      for (const entry of this.#byParent.of(parent)) {
        if (this.#aliases.isAlias(entry)) continue
        yield entry
        if (this.#byParent.has(entry.spiffeId)) open.push(entry.spiffeId)
      }
    }
  }

  #crawl (agent: AgentView): readonly Entry[] {
    return [...this.#descendants(this.#aliases.rootsOf(agent))].filter(entry => !this.#revokedIds.has(entry.spiffeId))
      .toSorted((a, b) => a.id < b.id ? -1 : 1)
  }

  #link (entry: Entry): void {
    this.#byId.set(entry.id, entry)
    this.#byParent.add(entry.parentId, entry)
    this.#bySpiffeId.add(entry.spiffeId, entry)
    if (this.#aliases.isAlias(entry)) this.#aliases.add(entry)
  }

  #unlink (entry: Entry): void {
    const { id } = entry
    this.#byId.delete(id)
    this.#byParent.remove(entry.parentId, id)
    this.#bySpiffeId.remove(entry.spiffeId, id)
    this.#aliases.remove(id)
  }
}

function hasSameSelectors (a: Entry, b: Entry): boolean {
  return a.selectors.length === b.selectors.length && isSubset(a.selectors, new Set(b.selectors.map(formatSelector)))
}
