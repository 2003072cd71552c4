import type { RequestFacts } from './facts.ts'
import { type Match, matches } from './match.ts'
import type { Rule, Test } from './rule.ts'

/** `undefined`: nobody can know. */
export type Truth = boolean | undefined

/**
 * Whether a rule is about the request. What cannot be known neither lets in nor spares: an `allow` rule needs `true`, a `deny` rule
 * refuses unless `false`.
 */
export function applies ({ target, from, to, when }: Pick<Rule, 'target' | 'from' | 'to' | 'when'>, facts: RequestFacts): Truth {
  // What is asked first: the index has found the rule by who asks whom, mostly.
  const asked = oneHolds(to, facts)
  if (asked === false) return false
  const caller = oneHolds(from, facts)
  if (caller === false) return false
  const about = allHold(target, facts)
  if (about === false) return false
  const conditions = allHold(when, facts)
  if (conditions === false) return false
  return about === undefined || caller === undefined || asked === undefined || conditions === undefined ? undefined : true
}

export function holds ({ fact, any, none }: Test, facts: RequestFacts): Truth {
  const values = facts.get(fact)
  if (values === undefined) return undefined
  return (any === undefined || oneMeets(any, values)) && !(none !== undefined && oneMeets(none, values))
}

/** For each request, some times: hence without functions of functions. */
function oneMeets (list: readonly Match[], values: readonly string[]): boolean {
  for (const match of list) for (const value of values) if (matches(match, value)) return true
  return false
}

export function allHold (tests: readonly Test[], facts: RequestFacts): Truth {
  let truth: Truth = true
  for (const test of tests) {
    const one = holds(test, facts)
    if (one === false) return false
    if (one === undefined) truth = undefined
  }
  return truth
}

function oneHolds (alternatives: ReadonlyArray<readonly Test[]> | undefined, facts: RequestFacts): Truth {
  if (alternatives === undefined) return true
  let truth: Truth = false
  for (const tests of alternatives) {
    const one = allHold(tests, facts)
    if (one === true) return true
    if (one === undefined) truth = undefined
  }
  return truth
}
