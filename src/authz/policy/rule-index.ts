import { anything, dimensions, keysFor, keysOf } from './dimensions.ts'
import type { RequestFacts } from './facts.ts'
import type { Rule } from './rule.ts'

/** Places that one rule may take in a level; beyond, it stands under what every request has, and is looked at in full. */
const mostPlaces = 256

interface Level {
  readonly next: Map<string, Level>
  /** Of the last level: positions in the list of rules, ascending. */
  readonly rules: number[]
}

/**
 * Finds the rules that can be about a request without walking the others: one level of maps per dimension. What is found is still to be
 * evaluated; what is not found is not about the request.
 */
export class RuleIndex {
  readonly rules: readonly Rule[]
  readonly #root: Level = newLevel()

  constructor (rules: readonly Rule[]) {
    this.rules = rules
    for (const [position, rule] of rules.entries()) this.#add(rule, position)
  }

  /**
   * @param unknowns `match`: rules whose facts nobody can know here are found too
   * @returns positions in `rules`, ascending
   */
  find (facts: RequestFacts, unknowns: 'match' | 'miss'): readonly number[] {
    let levels = [this.#root]
    for (const dimension of dimensions) {
      const keys = keysFor(dimension, facts)
      const below: Level[] = []
      for (const { next } of levels) {
        if (keys === undefined && unknowns === 'match') {
          for (const level of next.values()) below.push(level)
          continue
        }
        for (const key of keys ?? [anything]) {
          const level = next.get(key)
          if (level !== undefined) below.push(level)
        }
      }
      levels = below
    }
    const [first, ...others] = levels
    if (others.length === 0) return first?.rules ?? []
    return [...new Set(levels.flatMap(({ rules }) => rules))].toSorted((a, b) => a - b)
  }

  #add (rule: Rule, position: number): void {
    let places = [this.#root]
    for (const dimension of dimensions) {
      const keys = keysOf(dimension, rule)
      const used = keys.length * places.length > mostPlaces ? [anything] : keys
      places = places.flatMap(({ next }) => used.map(key => levelAt(next, key)))
    }
    for (const { rules } of places) if (rules.at(-1) !== position) rules.push(position)
  }
}

function levelAt (next: Map<string, Level>, key: string): Level {
  const known = next.get(key)
  if (known !== undefined) return known
  const level = newLevel()
  next.set(key, level)
  return level
}

function newLevel (): Level { return { next: new Map(), rules: [] } }
