import type { Rule } from '../policy/rule.ts'
import { all, any, assume, someLeaf, type Formula, type Leaf } from './formula.ts'
import { testFormula, type Bound, type Place } from './test-formula.ts'

/** One rule as Envoy is told it: it applies when both parts hold. */
export interface RuleFormula {
  readonly name: string
  /** About the caller alone. */
  readonly caller: Formula
  readonly rest: Formula
  readonly rule: Rule
}

/** Whether a rule is about the workload at all; its target is about nothing else. */
export function targetFormula ({ target }: Rule, place: Place): Formula {
  return all(target.map(test => testFormula(test, 'possible', place)))
}

/** Who refuses or asks does so unless it is certain that the rule does not apply. */
export function boundOfRule ({ action }: Rule): Bound { return action === 'deny' || action === 'custom' ? 'possible' : 'certain' }

/** @returns `undefined` when the rule never applies here */
export function ruleFormula (rule: Rule, bound: Bound, place: Place): RuleFormula | undefined {
  const tests = (list: Rule['when']) => all(list.map(test => testFormula(test, bound, place)))
  const alternatives = (list: Rule['from']) => list === undefined || any(list.map(tests))
  const parts = [tests(rule.target), alternatives(rule.from), alternatives(rule.to), ...rule.when.map(test => tests([test]))]
  if (all(parts) === false) return undefined
  const caller = parts.filter(isAboutCaller)
  return { name: rule.name, caller: all(caller), rest: all(parts.filter(part => !caller.includes(part))), rule }
}

/** What Envoy calls a principal has no part that it calls a permission. */
export function isAboutCaller (formula: Formula): boolean { return !someLeaf(formula, leaf => !isCallers(leaf)) }
export function isAboutRest (formula: Formula): boolean { return !someLeaf(formula, isCallers) }

function isCallers (leaf: Leaf): boolean {
  return 'text' in leaf ? leaf.subject === 'peer' : 'of' in leaf && leaf.of !== 'destination'
}

/** Why Envoy cannot be told it; `undefined`: it can. */
export function reasonOf (formula: Formula): string | undefined {
  let reason: string | undefined
  someLeaf(formula, leaf => {
    if ('unsayable' in leaf) reason = leaf.unsayable
    return reason !== undefined
  })
  return reason
}

/** How many tests it takes: what it costs Envoy, in memory and at worst in time. */
export function weightOf ({ caller, rest }: RuleFormula): number {
  let count = 1
  const counted = () => {
    count++
    return false
  }
  someLeaf(caller, counted)
  someLeaf(rest, counted)
  return count
}

/** The rule for a request of which something is known; `undefined` when it does not apply to such. */
export function assumeOf (rule: RuleFormula, known: Parameters<typeof assume>[1]): RuleFormula | undefined {
  const [caller, rest] = [assume(rule.caller, known), assume(rule.rest, known)]
  return all([caller, rest]) === false ? undefined : { ...rule, caller, rest }
}
