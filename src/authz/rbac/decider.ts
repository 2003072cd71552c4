import { RBAC_Action as Action, type RBACInit } from '../../wire/generated/envoy-rbac.ts'
import type { XdsMatcher_OnMatchInit as OnMatchInit, XdsMatcherInit } from '../../wire/generated/xds-matcher.ts'
import type { Rule } from '../policy/rule.ts'
import { type Leaf, someLeaf } from './formula.ts'
import { matcherTree, type Level } from './matcher-tree.ts'
import { goOn, namedAction } from './named-action.ts'
import { isRegular } from './path-pattern.ts'
import { isAddressInState, type PeerSource } from './peer.ts'
import { policyList } from './policy-list.ts'
import { predicate } from './predicate.ts'
import { isAboutCaller, isAboutRest, ruleFormula, type RuleFormula, weightOf } from './rule-formula.ts'
import type { Bound, Place } from './test-formula.ts'

/** What Envoy decides by, in one of its two forms. */
export type Decider = { readonly rules: RBACInit } | { readonly matcher: XdsMatcherInit }

export interface DeciderOptions {
  readonly place: Place
  readonly peer: PeerSource
  /** More are not walked but divided. */
  readonly mostInList: number
  /** Told how many tests each part takes; throws when it is too much. */
  readonly spend: (tests: number) => void
}

/** `DENY` refuses what meets a rule, `ALLOW` what meets none, `LOG` marks what meets one. */
export function decider (action: keyof typeof Action, rules: readonly Rule[], options: DeciderOptions): Decider {
  const formulas = formulasOf(rules, boundOf(action), options.place)
  if (formulas.length <= options.mostInList && formulas.every(formula => isListable(formula, options.peer))) {
    for (const formula of formulas) options.spend(weightOf(formula))
    return { rules: policyList(action, formulas, options.peer) }
  }
  // Without a rule that applies, `ALLOW` refuses by itself; the others must say that the request may go on.
  return { matcher: divided(action, rules, options, action === 'ALLOW' ? undefined : goOn) }
}

/**
 * `deny` and `allow` as one matcher, so that there is no moment in which the one is of an earlier set of rules than the other.
 * @param allow `undefined`: who is not refused may go on
 */
export function deciderInOne (deny: readonly Rule[], allow: readonly Rule[] | undefined, options: DeciderOptions): OnMatchInit {
  const allowed = allow === undefined ? goOn : { matcher: divided('ALLOW', allow, options, undefined) }
  return deny.length === 0 ? allowed : { matcher: divided('DENY', deny, options, allowed) }
}

function boundOf (action: keyof typeof Action): Bound { return action === 'DENY' ? 'possible' : 'certain' }

/**
 * Of a header that comes several times, the list holds each value against the text, and any will do; the matching API, as the engine,
 * all of them joined by commas.
 */
function isListable ({ caller, rest }: RuleFormula, peer: PeerSource): boolean {
  if (isAddressInState(peer) && someLeaf(caller, leaf => 'of' in leaf && leaf.of !== 'destination')) return false
  return isAboutCaller(caller) && isAboutRest(rest) && !someLeaf(rest, leaf => headerOf(leaf)?.startsWith(':') === false)
}

export function formulasOf (rules: readonly Rule[], bound: Bound, place: Place): RuleFormula[] {
  return rules.map(rule => ruleFormula(rule, bound, place)).filter(rule => rule !== undefined)
}

/** Whether the path is regular is asked once, not by each rule. */
function divided (
  action: keyof typeof Action, rules: readonly Rule[], { place, peer, spend }: DeciderOptions, otherwise: OnMatchInit | undefined
): XdsMatcherInit {
  const bound = boundOf(action)
  const formulas = formulasOf(rules, bound, place)
  const tree = (some: readonly RuleFormula[], levels: readonly Level[]) => {
    for (const rule of some) spend(weightOf(rule))
    return orElse(matcherTree(some, { peer, action, levels, spend }), otherwise)
  }
  if (!formulas.some(readsPath)) return tree(formulas, ['source.id']) ?? refuseAll
  const [regular, irregular] = (['regular', 'irregular'] as const).map(paths => formulasOf(rules, bound, { ...place, paths }))
  const whenRegular = tree(regular ?? [], ['source.id', 'path'])
  const whenIrregular = tree(irregular ?? [], ['source.id'])
  return {
    matcherList: { matchers: [{
      predicate: predicate(isRegular as Exclude<typeof isRegular, boolean>, peer), onMatch: { matcher: whenRegular ?? refuseAll }
    }] },
    ...whenIrregular === undefined ? {} : { onNoMatch: { matcher: whenIrregular } }
  }
}

const refuseAll: XdsMatcherInit = {
  onNoMatch: { action: namedAction('none', Action.DENY) }
}

/** At the end of the chain of what is looked at next. */
function orElse (matcher: XdsMatcherInit | undefined, onNoMatch: OnMatchInit | undefined): XdsMatcherInit | undefined {
  if (onNoMatch === undefined) return matcher
  const next = matcher?.onNoMatch
  if (next === undefined) return { ...matcher, onNoMatch }
  return next.matcher === undefined ? matcher : { ...matcher, onNoMatch: { matcher: orElse(next.matcher, onNoMatch) as XdsMatcherInit } }
}

function readsPath ({ caller, rest }: RuleFormula): boolean {
  return [caller, rest].some(formula => someLeaf(formula, leaf => headerOf(leaf) === ':path'))
}

function headerOf (leaf: Leaf): string | undefined {
  return 'text' in leaf && typeof leaf.subject === 'object' ? leaf.subject.header : undefined
}
