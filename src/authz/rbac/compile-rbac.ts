import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import { RBAC_Action as Action } from '../../wire/generated/envoy-rbac.ts'
import type { PolicySet } from '../policy/policy-set.ts'
import type { Rule } from '../policy/rule.ts'
import type { XdsMatcher_OnMatchInit as OnMatchInit } from '../../wire/generated/xds-matcher.ts'
import { type Decider, decider, deciderInOne, type DeciderOptions, formulasOf } from './decider.ts'
import type { Extension } from './extension.ts'
import { refusals, type Refusal } from './federation.ts'
import type { PeerSource } from './peer.ts'
import { predicate } from './predicate.ts'
import { namedAction, goOn } from './named-action.ts'
import { type FilterName, type RbacFilter, rbacExtension, refuseEverything } from './rbac-filter.ts'
import { reasonOf, targetFormula } from './rule-formula.ts'
import type { Place } from './test-formula.ts'

export interface RbacOptions {
  /** The chain the filters are for: HTTP, or bytes of which nothing is known but who sends them. */
  readonly kind: 'network' | 'http'
  /** `certificate` by default. */
  readonly peer?: PeerSource
  /** Federation that has ended by then is left out; without it, federation that ends at all needs `ext_authz`. */
  readonly now?: Date
  /** Rules that are walked one after the other; more are divided by caller and path. */
  readonly mostInList?: number
  /**
   * All that decides in one filter, named `allow`, behind that of `audit`: where filters of a chain come one by one, some would for a
   * moment be of other policies than the rest. A matcher, whatever the number of rules.
   */
  readonly inOne?: boolean
  /** Of conditions in all filters together; more is left to `ext_authz`. */
  readonly mostTests?: number
}

export interface CompiledRbac {
  /**
   * For the chain, in this order and before all that passes anything on. With `external` rules they refuse everything.
   */
  readonly filters: readonly Extension[]
  /** Rules that Envoy cannot be told, by name: requests to the workload must be asked about at `ext_authz`, instead of these filters. */
  readonly external: readonly string[]
  /** Why, one text for each of `external`. */
  readonly reasons: readonly string[]
  /** Of the filters' configuration. */
  readonly bytes: number
}

/** Where walking costs as much as dividing, see docs/adr/0021. */
const defaults = { mostInList: 50, mostTests: 200_000 }

/**
 * One workload's share of the policies as RBAC filters of Envoy: what they decide is what the engine decides, for each request.
 * The same set gives the same bytes.
 * @param set with its selectors resolved; rules with others are `external`
 */
export function compileRbac (set: PolicySet, destination: SpiffeId, options: RbacOptions): CompiledRbac {
  const { kind, peer = 'certificate', now, mostInList = defaults.mostInList, mostTests = defaults.mostTests, inOne = false } = options
  const place: Place = { destination, kind, paths: 'any' }
  const rules = set.rules.filter(rule => targetFormula(rule, place) !== false)
  const federation = refusals(set, destination, now)
  const reason = `the workload's rules are more than ${mostTests} tests`
  const tooMuch = () => leftToOthers(rules.map(({ name }) => ({ name, reason })), kind)
  if (rules.reduce((sum, rule) => sum + matchesIn(rule), 0) > mostTests) return tooMuch()
  const external = [...federation.timed.map(name => ({ name, reason: 'ends at a time' })), ...rules.flatMap(rule => unsayable(rule, place))]
  if (external.length > 0) return leftToOthers(external, kind)
  const budget = budgetOf(mostTests)
  try {
    const made = inOne ? filtersInOne : filtersOf
    const filters = made({ ...set, rules }, federation.refusals, { place, peer, mostInList, spend: budget })
    const extensions = filters.map(filter => rbacExtension(filter, kind))
    return { filters: extensions, external: [], reasons: [], bytes: sizeOf(extensions) }
  } catch (error) {
    if (!(error instanceof TooMuch)) throw error
    return tooMuch()
  }
}

function filtersOf (set: PolicySet, refused: readonly Refusal[], options: DeciderOptions): RbacFilter[] {
  const enforced = set.rules.filter(({ shadow }) => !shadow)
  const decided = (name: FilterName, decide: (rules: readonly Rule[]) => Decider | undefined): RbacFilter[] => {
    const differs = enforced.length < set.rules.length && set.rules.some(({ shadow, action }) => shadow && action === name)
    const [real, shadow] = [decide(enforced), differs ? decide(set.rules) : undefined]
    return real === undefined && shadow === undefined ? [] : [{ name, enforced: real, shadow }]
  }
  return [
    { name: 'federation', enforced: refusing(refused, options.peer), shadow: undefined },
    ...decided('audit', rules => of('audit', rules).length === 0 ? undefined : decider('LOG', of('audit', rules), options)),
    ...decided('deny', rules => of('deny', rules).length === 0 ? undefined : decider('DENY', of('deny', rules), options)),
    // A workload that an `allow` rule is about refuses what none allows, be it that none can here.
    ...decided('allow', rules => of('allow', rules).length === 0 && set.defaultAction === 'allow' ? undefined
      : decider('ALLOW', of('allow', rules), options))
  ]
}

function filtersInOne (set: PolicySet, refused: readonly Refusal[], options: DeciderOptions): RbacFilter[] {
  const enforced = set.rules.filter(({ shadow }) => !shadow)
  const inOne = (rules: readonly Rule[]): Decider => {
    const allow = of('allow', rules)
    return refusing(refused, options.peer,
      deciderInOne(of('deny', rules), allow.length === 0 && set.defaultAction === 'allow' ? undefined : allow, options))
  }
  const differs = set.rules.some(({ shadow, action }) => shadow && (action === 'deny' || action === 'allow'))
  return [
    ...filtersOf({ ...set, rules: of('audit', set.rules) }, [], options).filter(({ name }) => name === 'audit'),
    { name: 'allow', enforced: inOne(enforced), shadow: differs ? inOne(set.rules) : undefined }
  ]
}

function of (action: 'audit' | 'deny' | 'allow', rules: readonly Rule[]): Rule[] { return rules.filter(rule => rule.action === action) }

function refusing (refused: readonly Refusal[], peer: PeerSource, others: OnMatchInit = goOn): Decider {
  return {
    matcher: {
      matcherList: { matchers: refused.flatMap(({ name, when }) => typeof when === 'boolean' ? []
        : [{ predicate: predicate(when, peer), onMatch: { action: namedAction(name, Action.DENY) } }]) },
      onNoMatch: others
    }
  }
}

/** What is in the way of telling Envoy a rule. */
function unsayable (rule: Rule, place: Place): Array<{ name: string, reason: string }> {
  const target = targetFormula(rule, place)
  if (target !== true) return [{ name: rule.name, reason: reasonOf(target) ?? 'its target is about more than the workload' }]
  const bound = rule.action === 'deny' || rule.action === 'custom' ? 'possible' : 'certain'
  const [formula] = formulasOf([rule], bound, place)
  if (formula === undefined) return []
  if (rule.action === 'custom') return [{ name: rule.name, reason: `asks ${rule.provider}` }]
  const reason = reasonOf(formula.caller) ?? reasonOf(formula.rest)
  return reason === undefined ? [] : [{ name: rule.name, reason }]
}

function leftToOthers (external: ReadonlyArray<{ name: string, reason: string }>, kind: RbacOptions['kind']): CompiledRbac {
  const byName = new Map(external.map(({ name, reason }) => [name, reason]))
  const filters = [rbacExtension(refuseEverything, kind)]
  return { filters, external: [...byName.keys()], reasons: [...byName.values()], bytes: sizeOf(filters) }
}

class TooMuch extends Error {}

/** Said before anything is made of it. */
function matchesIn ({ from = [], to = [], when }: Rule): number {
  return [...from.flat(), ...to.flat(), ...when].reduce((sum, test) => sum + (test.any?.length ?? 0) + (test.none?.length ?? 0), 1)
}

function budgetOf (mostTests: number): (weight: number) => void {
  let left = mostTests
  return weight => {
    left -= weight
    if (left < 0) throw new TooMuch()
  }
}

function sizeOf (filters: readonly Extension[]): number {
  return filters.reduce((sum, { typedConfig }) => sum + (typedConfig.value?.length ?? 0), 0)
}
