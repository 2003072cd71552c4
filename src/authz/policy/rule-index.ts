import { anything, ByKey, dimensions, keysOf } from './dimensions.ts'
import type { Fact, RequestFacts } from './facts.ts'
import type { Rule } from './rule.ts'

/** Places that one rule may take; a dimension that would make it more is passed over, and the rule looked at in full. */
const mostPlaces = 256
/** So many rules are looked at sooner than they are told apart. */
const few = 8
const none: readonly number[] = []
const factsOfDimensions: readonly Fact[] = dimensions.map(name => ({ name }))

/** Rules that have the same keys so far; told apart by the next dimension once they are many. */
interface Level {
  /** Positions in the list of rules, ascending; empty once the level is divided. */
  rules: number[]
  next: ByKey<Level> | undefined
}

/**
 * Finds the rules that can be about a request without walking the others: one level of maps per dimension. What is found is still to be
 * evaluated; what is not found is not about the request.
 */
export class RuleIndex {
  readonly rules: readonly Rule[]
  readonly #root: Level = newLevel()
  /** By position: the dimensions that a rule is told apart by, as bits. */
  readonly #usedBy: Uint8Array

  constructor (rules: readonly Rule[]) {
    this.rules = rules
    this.#usedBy = Uint8Array.from(rules, usableDimensions)
    for (const position of rules.keys()) this.#add(this.#root, 0, position)
  }

  /**
   * @param unknowns `match`: rules whose facts nobody can know here are found too
   * @returns positions in `rules`, ascending
   */
  find (facts: RequestFacts, unknowns: 'match' | 'miss'): readonly number[] {
    if (this.rules.length === 0) return none
    const found: Array<readonly number[]> = []
    this.#collect(this.#root, 0, facts, unknowns, found)
    if (found.length < 2) return found[0] ?? none
    return [...new Set(found.flat())].toSorted((a, b) => a - b)
  }

  #collect (level: Level, depth: number, facts: RequestFacts, unknowns: 'match' | 'miss', found: Array<readonly number[]>): void {
    if (level.rules.length > 0) found.push(level.rules)
    const fact = factsOfDimensions[depth]
    if (level.next === undefined || fact === undefined) return
    const values = facts.get(fact)
    if (values === undefined && unknowns === 'match') {
      for (const below of level.next.all()) this.#collect(below, depth + 1, facts, unknowns, found)
      return
    }
    level.next.some(values, below => {
      this.#collect(below, depth + 1, facts, unknowns, found)
      return false
    })
  }

  #add (level: Level, depth: number, position: number): void {
    if (level.next !== undefined) return this.#addBelow(level.next, depth, position)
    if (level.rules.at(-1) !== position) level.rules.push(position)
    if (level.rules.length <= few || depth >= dimensions.length) return
    const { rules } = level
    level.rules = []
    level.next = new ByKey()
    for (const one of rules) this.#addBelow(level.next, depth, one)
  }

  #addBelow (next: ByKey<Level>, depth: number, position: number): void {
    const dimension = dimensions[depth]
    const rule = this.rules[position]
    if (dimension === undefined || rule === undefined) return
    const isUsed = ((this.#usedBy[position] ?? 0) >> depth & 1) === 1
    for (const key of isUsed ? keysOf(dimension, rule) : [anything]) {
      let below = next.get(key)
      if (below === undefined) next.set(key, below = newLevel())
      this.#add(below, depth + 1, position)
    }
  }
}

function usableDimensions (rule: Rule): number {
  let places = 1
  let used = 0
  for (const [i, dimension] of dimensions.entries()) {
    const { length } = keysOf(dimension, rule)
    if (places * length > mostPlaces) continue
    places *= Math.max(1, length)
    used |= 1 << i
  }
  return used
}

function newLevel (): Level { return { rules: [], next: undefined } }
