import { holds, type Truth } from '../policy/evaluate.ts'
import type { FactValues, RequestFacts } from '../policy/facts.ts'
import type { Rule, Test } from '../policy/rule.ts'
import { describeTest } from './describe-match.ts'

/** A test that a request does not pass, and what was there instead. */
export interface FailedTest {
  /** `workloads`, `from 1`, `to 2` or `when`; the first has the number 1. */
  readonly place: string
  /** What must hold. */
  readonly wanted: string
  /** The values there were; none: the request has no such thing; `undefined`: nobody can know. */
  readonly found: FactValues
}

/**
 * Why a rule is not about a request: the first test that fails, of alternatives of each. What cannot be known fails here, as it does for
 * `allow` rules.
 * @returns nothing when the rule is about the request
 */
export function whyNot ({ target, from, to, when }: Rule, facts: RequestFacts): readonly FailedTest[] {
  const parts = [
    firstFailure('workloads', target, facts),
    ...alternatives('from', from, facts),
    ...alternatives('to', to, facts),
    firstFailure('when', when, facts)
  ]
  return parts.find(failures => failures.length > 0) ?? []
}

/** One part: empty when one of them holds. */
function alternatives (name: 'from' | 'to', all: ReadonlyArray<readonly Test[]> | undefined, facts: RequestFacts): FailedTest[][] {
  if (all === undefined) return []
  if (all.length === 0) return [[{ place: name, wanted: 'nothing meets an empty list', found: [] }]]
  const failures = all.map((tests, i) => firstFailure(`${name} ${i + 1}`, tests, facts))
  return failures.some(one => one.length === 0) ? [] : [failures.flat()]
}

function firstFailure (place: string, tests: readonly Test[], facts: RequestFacts): FailedTest[] {
  const known = tests.find(test => holds(test, facts) === false)
  const test = known ?? tests.find(one => (holds(one, facts) satisfies Truth) !== true)
  return test === undefined ? [] : [{ place, wanted: describeTest(test), found: facts.get(test.fact) }]
}
