import type { RequestFacts } from './facts.ts'
import { matches } from './match.ts'
import type { Rule, Test } from './rule.ts'

/** `undefined`: nobody can know. */
export type Truth = boolean | undefined

/**
 * Whether a rule is about the request. What cannot be known neither lets in nor spares: an `allow` rule needs `true`, a `deny` rule
 * refuses unless `false`.
 */
export function applies ({ target, from, to, when }: Pick<Rule, 'target' | 'from' | 'to' | 'when'>, facts: RequestFacts): Truth {
  return and(allHold(target, facts), () => and(oneHolds(from, facts), () => and(oneHolds(to, facts), () => allHold(when, facts))))
}

export function holds ({ fact, any, none }: Test, facts: RequestFacts): Truth {
  const values = facts.get(fact)
  if (values === undefined) return undefined
  if (any !== undefined && !any.some(match => values.some(value => matches(match, value)))) return false
  return none === undefined || !none.some(match => values.some(value => matches(match, value)))
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

function and (left: Truth, right: () => Truth): Truth {
  if (left === false) return false
  const other = right()
  return other === false ? false : left === true ? other : undefined
}
