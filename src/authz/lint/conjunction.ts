import type { Fact, FactName } from '../policy/facts.ts'
import type { Match } from '../policy/match.ts'
import type { Rule, Test } from '../policy/rule.ts'
import { covers, disjoint } from './match-relations.ts'
import { whyImpossible } from './possible-values.ts'

/** Tests that must hold together. */
export type Conjunction = readonly Test[]

/** More alternatives are not looked at: nothing is found then. */
const mostConjunctions = 4_096

/** A rule as alternatives of which one must hold. `undefined`: too many. */
export function conjunctionsOf ({ target, from = [[]], to = [[]], when }: Rule): readonly Conjunction[] | undefined {
  if (from.length * to.length > mostConjunctions) return undefined
  return from.flatMap(source => to.map(operation => [...target, ...source, ...operation, ...when]))
}

/** Facts of which a request may have several values: one may meet one test, another the next. */
const several: ReadonlySet<FactName> = new Set<FactName>(['claim', 'jwt.audience', 'jwt.presenter'])
/** Facts that are there or known not to be; of all others it may be that nobody can know them. */
const known: ReadonlySet<FactName> = new Set<FactName>(['source.id', 'time'])

export interface ContradictionOptions {
  readonly now: Date
  /** What cannot be known meets a rule, as it does `deny` rules: contradictions about such facts do not count. */
  readonly unknownMeets: boolean
}

/** Why no request can meet all of the tests; `undefined`: some may, as far as can be seen. */
export function contradiction (tests: Conjunction, { now, unknownMeets }: ContradictionOptions): string | undefined {
  for (const group of byFact(tests)) {
    const [{ fact }] = group
    if (unknownMeets && !known.has(fact.name)) continue
    const none = group.flatMap(test => test.none ?? [])
    const lists = group.flatMap(({ any }) => any === undefined ? [] : [any])
    const [left, ...more] = lists.map(any => any.filter(match => whyImpossible(fact.name, match, now) === undefined))
    if (left === undefined) continue
    const [impossible] = lists.filter(any => any.length > 0 && any.every(match => whyImpossible(fact.name, match, now) !== undefined))
    if (impossible !== undefined) return `${fact.name}: ${whyImpossible(fact.name, impossible[0] as Match, now)}`
    if (left.every(match => none.some(wide => covers(wide, match)))) return `${fact.name} is asked for what is excluded`
    if (several.has(fact.name)) continue
    for (const other of more) {
      if (other.every(match => none.some(wide => covers(wide, match)))) return `${fact.name} is asked for what is excluded`
      if (left.every(a => other.every(b => disjoint(a, b)))) return `${fact.name} is asked to be two things at once`
    }
  }
  return undefined
}

/**
 * Whether all that `narrow` asks cannot hold without all that `wide` asks. Holds for what cannot be known too: a fact that is unknown is so
 * in both.
 */
export function implies (narrow: Conjunction, wide: Conjunction): boolean {
  return wide.every(({ fact, any, none }) => {
    const same = narrow.filter(test => isSame(test.fact, fact))
    const some = any === undefined || same.some(test => test.any?.every(match => any.some(one => covers(one, match))) === true)
    return some && (none ?? []).every(excluded => same.some(test =>
      test.none?.some(one => covers(one, excluded)) === true ||
      (!several.has(fact.name) && test.any?.every(match => disjoint(match, excluded)) === true)))
  })
}

/** Whether one rule is about all that another is about. */
export function coversRule (wide: readonly Conjunction[], narrow: readonly Conjunction[]): boolean {
  return narrow.every(one => wide.some(other => implies(one, other)))
}

function byFact (tests: Conjunction): (readonly [Test, ...Test[]])[] {
  const groups = new Map<string, [Test, ...Test[]]>()
  for (const test of tests) {
    const key = JSON.stringify(test.fact)
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [test])
    else group.push(test)
  }
  return [...groups.values()]
}

function isSame (a: Fact, b: Fact): boolean {
  if (a.name === 'header' && b.name === 'header') return a.header === b.header
  if (a.name === 'claim' && b.name === 'claim') return JSON.stringify(a.path) === JSON.stringify(b.path)
  return a.name === b.name
}
