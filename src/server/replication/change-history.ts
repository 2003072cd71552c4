import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { Cursor } from '../../storage/change-log.ts'
import type { Touched } from '../registry.ts'

interface Step { readonly number: number, readonly touched: ReadonlyMap<SpiffeId, Touched> }

/** Agents and entries that are remembered in all; the oldest steps go first. */
const mostRemembered = 1_000_000

/** Whom the latest steps of the log touched, so that an agent that comes back is told what it missed and not everything. */
export class ChangeHistory {
  readonly #steps: Step[] = []
  #from: Cursor
  #remembered = 0

  /** @param from where this replica began: what was before, it does not know */
  constructor (from: Cursor) { this.#from = from }

  add (cursor: Cursor, touched: ReadonlyMap<SpiffeId, Touched>): void {
    if (cursor.epoch !== this.#from.epoch) {
      this.#steps.length = 0
      this.#remembered = 0
      this.#from = cursor
      return
    }
    this.#steps.push({ number: cursor.number, touched })
    this.#remembered += sizeOf(touched)
    while (this.#remembered > mostRemembered) {
      const oldest = this.#steps.shift()
      if (oldest === undefined) return
      this.#remembered -= sizeOf(oldest.touched)
      this.#from = { ...this.#from, number: oldest.number }
    }
  }

  /** What touched an agent after `cursor`; `undefined` when that is not known any more, or was never. */
  since (cursor: Cursor, agent: SpiffeId): Touched | undefined {
    if (cursor.epoch !== this.#from.epoch || cursor.number < this.#from.number) return undefined
    const ids = new Set<string>()
    for (let index = this.#steps.length - 1; index >= 0; index--) {
      const { number, touched } = this.#steps[index] as Step
      if (number <= cursor.number) break
      const touch = touched.get(agent)
      if (touch === 'all') return 'all'
      for (const id of touch ?? []) ids.add(id)
    }
    return ids
  }

  /**
   * Agents that changes of these entries touched between two places of the log, each with the last place that did; `undefined` when it is
   * not known any more.
   */
  between (since: Cursor, until: Cursor, entryIds: ReadonlySet<string>): ReadonlyMap<SpiffeId, number> | undefined {
    if (since.epoch !== this.#from.epoch || until.epoch !== this.#from.epoch || since.number < this.#from.number) return undefined
    const agents = new Map<SpiffeId, number>()
    for (const { number, touched } of this.#steps) {
      if (number <= since.number || number > until.number) continue
      for (const [agent, touch] of touched) {
        // A change of everything may be one of these entries: as an alias, or as a parent of others.
        if (touch === 'all' || !touch.isDisjointFrom(entryIds)) agents.set(agent, number)
      }
    }
    return agents
  }
}

function sizeOf (touched: ReadonlyMap<SpiffeId, Touched>): number {
  let size = 1
  for (const touch of touched.values()) size += touch === 'all' ? 1 : 1 + touch.size
  return size
}
