import type { Rule } from '../policy/rule.ts'
import { all, any, type Formula, type Leaf, not, someLeaf } from './formula.ts'
import { boundOfRule, ruleFormula, targetFormula } from './rule-formula.ts'
import type { Place } from './test-formula.ts'

/**
 * Whom a rule that Envoy cannot be told might be about: as much of it as a choice of routes can look at, which are headers and the
 * caller's ID. Whatever else it asks for may be so.
 */
export function concernOf (rule: Rule, place: Place): Formula {
  if (targetFormula(rule, place) !== true) return true
  const formula = ruleFormula(rule, boundOfRule(rule), place)
  return formula !== undefined && widened(all([formula.caller, formula.rest]), isSeenByRoutes)
}

/** What holds wherever the condition does, made of those tests alone; `true` where nothing less is sure. */
export function widened (formula: Formula, isSeen: (leaf: Leaf) => boolean): Formula { return bounded(formula, isSeen, true) }

/** @param others what tests count as that are not seen, where they stand without a `not` */
function bounded (formula: Formula, isSeen: (leaf: Leaf) => boolean, others: boolean): Formula {
  if (typeof formula === 'boolean') return formula
  if ('all' in formula) return all(formula.all.map(one => bounded(one, isSeen, others)))
  if ('any' in formula) return any(formula.any.map(one => bounded(one, isSeen, others)))
  if ('not' in formula) return not(bounded(formula.not, isSeen, !others))
  return isSeen(formula) ? formula : others
}

function isSeenByRoutes (leaf: Leaf): boolean {
  return 'text' in leaf && (leaf.subject === 'peer' || typeof leaf.subject === 'object')
}

/** Tests that one request may cost; whatever has more of them is cheaper asked about. */
const mostTests = 500

/** All of them together; `true`: each request. */
export function concernOfAll (concerns: readonly Formula[]): Formula {
  const together = any(concerns)
  let tests = 0
  return someLeaf(together, () => ++tests > mostTests) ? true : together
}
