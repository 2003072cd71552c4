import type { SpiffeId } from '../spiffe/spiffe-id.ts'

/** What a change means to one agent: it gained, lost or must renew these entries at most; or `all` must be compared. */
export type Touched = ReadonlySet<string> | 'all'

/** Ids of entries that one change affects together. */
export type Affected = readonly string[] | 'all'

/** What touched some agents so far: what is up the tree, and these. */
interface Node {
  readonly above: Node | undefined
  readonly ids: readonly string[]
  readonly next: Map<readonly string[], Node>
}

/** Collects whom a change touches. Agents that are touched alike share one set, however many they are. */
export class Touches {
  readonly #root: Node = { above: undefined, ids: [], next: new Map() }
  readonly #agents = new Map<SpiffeId, Node | 'all'>()

  add (agent: SpiffeId, affected: Affected): void {
    const before = this.#agents.get(agent) ?? this.#root
    if (before === 'all') return
    this.#agents.set(agent, affected === 'all' ? 'all' : followed(before, affected))
  }

  take (): ReadonlyMap<SpiffeId, Touched> {
    const sets = new Map<Node, ReadonlySet<string>>()
    const taken = new Map<SpiffeId, Touched>()
    for (const [agent, node] of this.#agents) {
      if (node === 'all') {
        taken.set(agent, node)
        continue
      }
      const ids = sets.get(node) ?? idsOf(node)
      sets.set(node, ids)
      taken.set(agent, ids)
    }
    return taken
  }
}

function followed (node: Node, ids: readonly string[]): Node {
  // An agent may be found by several ways, and before and after the change.
  if (node.ids === ids || (ids.length === 1 && node.ids.length === 1 && ids[0] === node.ids[0])) return node
  const known = node.next.get(ids)
  if (known !== undefined) return known
  const next = { above: node, ids, next: new Map() }
  node.next.set(ids, next)
  return next
}

function idsOf (last: Node): ReadonlySet<string> {
  const ids = new Set<string>()
  for (let node: Node | undefined = last; node !== undefined; node = node.above) for (const id of node.ids) ids.add(id)
  return ids
}
