import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { Cursor } from '../../storage/change-log.ts'
import type { Touched } from '../touches.ts'

/** From the place of the step before it to `number`. */
interface Step<Who> { readonly number: number, readonly touched: ReadonlyMap<Who, Touched> }

/** Agents and entries that are remembered in all, some 70 bytes each; the oldest steps go first. */
const usuallyRemembered = 500_000

/**
 * Whom the latest steps of the log touched, so that an agent that comes back is told what it missed and not everything. A step may stand
 * for many changes: what was true in the middle of it this replica never knew, and another one may have told an agent.
 */
export class ChangeHistory<Who extends string = SpiffeId> {
  readonly #mostRemembered: number
  /** In the order of their numbers; those before `#first` are forgotten. */
  readonly #steps: Step<Who>[] = []
  #first = 0
  /** The steps that touched each agent. */
  readonly #byAgent = new Map<Who, Step<Who>[]>()
  /** Where the first step begins. */
  #from: Cursor
  #remembered = 0

  /** @param from where this replica began: what was before, it does not know */
  constructor (from: Cursor, mostRemembered = usuallyRemembered) {
    this.#from = from
    this.#mostRemembered = mostRemembered
  }

  add (cursor: Cursor, touched: ReadonlyMap<Who, Touched>): void {
    const last = this.#steps.at(-1)?.number ?? this.#from.number
    if (cursor.epoch !== this.#from.epoch || cursor.number < last) return this.#beginAt(cursor)
    // The same place again is the same state.
    if (cursor.number === last) return
    const step = { number: cursor.number, touched: touched.size === 0 ? nobody as ReadonlyMap<Who, Touched> : touched }
    this.#steps.push(step)
    for (const agent of touched.keys()) {
      const steps = this.#byAgent.get(agent)
      if (steps === undefined) this.#byAgent.set(agent, [step])
      else steps.push(step)
    }
    this.#remembered += sizeOf(touched)
    while (this.#remembered > this.#mostRemembered) this.#forgetOldest()
  }

  /** What touched an agent after `cursor`; `undefined` when that is not known any more, or never was. */
  since (cursor: Cursor, agent: Who): Touched | undefined {
    if (cursor.epoch !== this.#from.epoch || this.#stepsUpTo(cursor.number) === undefined) return undefined
    const steps = this.#byAgent.get(agent) ?? []
    const ids = new Set<string>()
    for (let index = steps.length - 1; index >= 0; index--) {
      const { number, touched } = steps[index] as Step<Who>
      if (number <= cursor.number) break
      const touch = touched.get(agent)
      if (touch === 'all') return touch
      for (const id of touch ?? []) ids.add(id)
    }
    return ids
  }

  /**
   * Agents that changes of these entries touched between two places of the log, each with the place it must have reached to know them all;
   * `undefined` when it is not known any more, or never was.
   */
  between (since: Cursor, until: Cursor, entryIds: ReadonlySet<string>): ReadonlyMap<Who, number> | undefined {
    if (since.epoch !== this.#from.epoch || until.epoch !== this.#from.epoch) return undefined
    if (until.number > (this.#steps.at(-1)?.number ?? this.#from.number)) return undefined
    const begin = this.#stepsUpTo(since.number)
    if (begin === undefined) return undefined
    const agents = new Map<Who, number>()
    for (let index = begin, place = since.number; place < until.number; index++) {
      const { number, touched } = this.#steps[index] as Step<Who>
      for (const [agent, touch] of touched) {
        // A change of everything may be one of these entries: as an alias, or as a parent of others.
        if (touch === 'all' || !touch.isDisjointFrom(entryIds)) agents.set(agent, Math.min(number, until.number))
      }
      place = number
    }
    return agents
  }

  /** The index of the step that begins at this place; `undefined` when this replica never stood there, or does not remember. */
  #stepsUpTo (place: number): number | undefined {
    if (place === this.#from.number) return this.#first
    let [low, high] = [this.#first, this.#steps.length - 1]
    while (low <= high) {
      const middle = (low + high) >>> 1
      const { number } = this.#steps[middle] as Step<Who>
      if (number === place) return middle + 1
      if (number < place) low = middle + 1
      else high = middle - 1
    }
    return undefined
  }

  #forgetOldest (): void {
    const { number, touched } = this.#steps[this.#first++] as Step<Who>
    this.#from = { ...this.#from, number }
    this.#remembered -= sizeOf(touched)
    for (const agent of touched.keys()) {
      const steps = this.#byAgent.get(agent) as Step<Who>[]
      steps.shift()
      if (steps.length === 0) this.#byAgent.delete(agent)
    }
    if (this.#first * 2 <= this.#steps.length) return
    this.#steps.splice(0, this.#first)
    this.#first = 0
  }

  #beginAt (cursor: Cursor): void {
    this.#steps.length = 0
    this.#first = 0
    this.#byAgent.clear()
    this.#remembered = 0
    this.#from = cursor
  }
}

const nobody: ReadonlyMap<string, Touched> = new Map()

/** Agents that the same entries touch share one set. */
function sizeOf (touched: ReadonlyMap<string, Touched>): number {
  let size = 1 + touched.size
  let counted: Touched | undefined
  for (const touch of touched.values()) {
    if (touch !== 'all' && touch !== counted) size += touch.size
    counted = touch
  }
  return size
}
