/**
 * Which rules have a series of their own: at most so many, chosen by how often they decided. A rule that has one keeps it, so that no
 * counter ever goes back; what it counted before stays with the others.
 */
export class RuleCounts {
  readonly #most: number
  readonly #told = new Set<string>()
  /** Decisions by rule since the last time they were taken. */
  #since = new Map<string, number>()
  /** Decisions by rule without a series, of all times. */
  readonly #waiting = new Map<string, number>()

  constructor (most: number) { this.#most = most }

  add (rule: string): void { this.#since.set(rule, (this.#since.get(rule) ?? 0) + 1) }

  /** Forgets rules that are no more, except their series. */
  keepOnly (rules: ReadonlySet<string>): void {
    for (const rule of this.#waiting.keys()) if (!rules.has(rule)) this.#waiting.delete(rule)
  }

  /** What came since the last time, by the name of its series. */
  take (): ReadonlyMap<string, number> {
    const taken = new Map<string, number>()
    const since = this.#since
    this.#since = new Map()
    for (const [rule, count] of since) if (!this.#told.has(rule)) this.#waiting.set(rule, (this.#waiting.get(rule) ?? 0) + count)
    const room = this.#most - this.#told.size
    if (room > 0) {
      for (const [rule] of [...this.#waiting].toSorted(([, a], [, b]) => b - a).slice(0, room)) {
        this.#told.add(rule)
        this.#waiting.delete(rule)
      }
    }
    for (const [rule, count] of since) {
      const name = this.#told.has(rule) ? rule : 'other'
      taken.set(name, (taken.get(name) ?? 0) + count)
    }
    return taken
  }
}
