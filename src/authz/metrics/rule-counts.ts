/** What all count as that have no series of their own; rules' names have a slash. */
const others = 'other'
/** Names that are told apart until they are taken: with partners' trust domains, and rules of all revisions, they are any number. */
const mostNames = 10_000

/**
 * Which rules have a series of their own: at most so many, the busiest of those that decided first. A rule that has one keeps it, so that
 * no counter ever goes back; what it counted before stays with the others.
 */
export class RuleCounts {
  readonly #most: number
  readonly #told = new Set<string>()
  /** Decisions by rule since the last time they were taken. */
  #since = new Map<string, number>()

  constructor (most: number) { this.#most = most }

  /** Names that are kept. */
  get size (): number { return this.#told.size + this.#since.size }

  add (rule: string): void {
    const isKept = this.#since.size < mostNames || this.#since.has(rule) || this.#told.has(rule)
    const name = isKept ? rule : others
    this.#since.set(name, (this.#since.get(name) ?? 0) + 1)
  }

  /** What came since the last time, by the name of its series. */
  take (): ReadonlyMap<string, number> {
    const since = this.#since
    this.#since = new Map()
    const room = this.#most - this.#told.size
    if (room > 0) {
      const untold = [...since].filter(([rule]) => rule !== others && !this.#told.has(rule))
      for (const [rule] of untold.toSorted(([, a], [, b]) => b - a).slice(0, room)) this.#told.add(rule)
    }
    const taken = new Map<string, number>()
    for (const [rule, count] of since) {
      const name = this.#told.has(rule) ? rule : others
      taken.set(name, (taken.get(name) ?? 0) + count)
    }
    return taken
  }
}
