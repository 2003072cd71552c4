import type { Entry } from '../spiffe/entry.ts'
import { formatSelector, isSubset, type Selector } from '../spiffe/selector.ts'
import { spiffeIdOf, type SpiffeId } from '../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'

/** An agent as far as authorization of entries goes. */
export interface AgentView { readonly id: SpiffeId, readonly selectors: readonly Selector[] }

interface Cached { readonly revision: number, readonly selectors: readonly Selector[], readonly entries: readonly Entry[] }

/**
 * All registration entries in memory, indexed by what the hot path asks: which entries may this agent serve, and is this one
 * among them. Entries whose parent is `/spire/server` are node aliases: they give an agent a further ID and are not served themselves.
 */
export class Registry {
  readonly #serverId: SpiffeId
  readonly #byId = new Map<string, Entry>()
  readonly #byParent = new Map<SpiffeId, Map<string, Entry>>()
  readonly #bySpiffeId = new Map<SpiffeId, Map<string, Entry>>()
  /** Node aliases by their first selector, so that an agent only looks at aliases that could apply to it. */
  readonly #aliasesBySelector = new Map<string, Map<string, Entry>>()
  readonly #authorized = new Map<SpiffeId, Cached>()
  #revision = 0

  constructor (trustDomain: TrustDomain) { this.#serverId = spiffeIdOf(trustDomain, '/spire/server') }

  /** Grows with each change. */
  get revision (): number { return this.#revision }
  get size (): number { return this.#byId.size }

  get (id: string): Entry | undefined { return this.#byId.get(id) }

  put (entries: Iterable<Entry>): void {
    for (const entry of entries) {
      this.#unlink(entry.id)
      this.#byId.set(entry.id, entry)
      link(this.#byParent, entry.parentId, entry)
      link(this.#bySpiffeId, entry.spiffeId, entry)
      if (entry.parentId === this.#serverId) link(this.#aliasesBySelector, firstKey(entry), entry)
    }
    this.#revision++
  }

  remove (ids: Iterable<string>): void {
    for (const id of ids) this.#unlink(id)
    this.#revision++
  }

  /** Entries the agent may serve: those below its ID and its aliases, and below their IDs in turn. In the order of their ids. */
  authorizedEntries (agent: AgentView): readonly Entry[] {
    const cached = this.#authorized.get(agent.id)
    if (cached?.revision === this.#revision && cached.selectors === agent.selectors) return cached.entries
    const entries = this.#crawl(agent).toSorted((a, b) => a.id < b.id ? -1 : 1)
    this.#authorized.set(agent.id, { revision: this.#revision, selectors: agent.selectors, entries })
    return entries
  }

  /** Whether one entry is among the agent's, found by climbing its parents: independent of how many entries the agent has. */
  isAuthorized (agent: AgentView, entry: Entry): boolean {
    if (this.#isAlias(entry)) return false
    const roots = new Set<SpiffeId>([agent.id, ...this.#aliasesOf(agent).map(alias => alias.spiffeId)])
    const seen = new Set<SpiffeId>()
    for (const parents = [entry.parentId]; parents.length > 0;) {
      const parent = parents.pop() as SpiffeId
      if (roots.has(parent)) return true
      if (seen.has(parent)) continue
      seen.add(parent)
      for (const above of this.#bySpiffeId.get(parent)?.values() ?? []) if (!this.#isAlias(above)) parents.push(above.parentId)
    }
    return false
  }

  /** Whether any entry with this ID carries a right; admin and downstream callers are known by their entries. */
  someEntry (id: SpiffeId, test: (entry: Entry) => boolean): boolean {
    for (const entry of this.#bySpiffeId.get(id)?.values() ?? []) if (test(entry)) return true
    return false
  }

  /** Frees what is remembered for an agent that is gone. */
  forget (agentId: SpiffeId): void { this.#authorized.delete(agentId) }

  #crawl (agent: AgentView): Entry[] {
    const found = new Map<string, Entry>()
    const seen = new Set<SpiffeId>()
    for (const parents = [agent.id, ...this.#aliasesOf(agent).map(alias => alias.spiffeId)]; parents.length > 0;) {
      const parent = parents.pop() as SpiffeId
      if (seen.has(parent)) continue
      seen.add(parent)
      for (const entry of this.#byParent.get(parent)?.values() ?? []) {
        if (this.#isAlias(entry)) continue
        found.set(entry.id, entry)
        parents.push(entry.spiffeId)
      }
    }
    return [...found.values()]
  }

  #aliasesOf (agent: AgentView): Entry[] {
    const present = new Set(agent.selectors.map(formatSelector))
    const aliases = [...this.#byParent.get(agent.id)?.values() ?? []].filter(isJoinTokenAlias)
    for (const key of present) {
      for (const alias of this.#aliasesBySelector.get(key)?.values() ?? []) if (isSubset(alias.selectors, present)) aliases.push(alias)
    }
    return aliases
  }

  #isAlias (entry: Entry): boolean {
    return entry.parentId === this.#serverId || isJoinTokenAlias(entry)
  }

  #unlink (id: string): void {
    const entry = this.#byId.get(id)
    if (entry === undefined) return
    this.#byId.delete(id)
    unlink(this.#byParent, entry.parentId, id)
    unlink(this.#bySpiffeId, entry.spiffeId, id)
    if (entry.parentId === this.#serverId) unlink(this.#aliasesBySelector, firstKey(entry), id)
  }
}

/** The entry `CreateJoinToken` makes for `agent_id`: parent and only selector name the join-token agent. */
export function isJoinTokenAlias (entry: Entry): boolean {
  const [selector, ...more] = entry.selectors
  return more.length === 0 && selector?.type === 'spiffe_id' && selector.value === entry.parentId
}

function firstKey (entry: Entry): string {
  return formatSelector(entry.selectors[0] ?? { type: '', value: '' })
}

function link<K> (index: Map<K, Map<string, Entry>>, key: K, entry: Entry): void {
  const group = index.get(key)
  if (group === undefined) index.set(key, new Map([[entry.id, entry]]))
  else group.set(entry.id, entry)
}

function unlink<K> (index: Map<K, Map<string, Entry>>, key: K, id: string): void {
  const group = index.get(key)
  group?.delete(id)
  if (group?.size === 0) index.delete(key)
}
