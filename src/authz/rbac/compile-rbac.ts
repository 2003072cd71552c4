import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import { RBAC_Action as Action } from '../../wire/generated/envoy-rbac.ts'
import type { PolicySet } from '../policy/policy-set.ts'
import type { Rule } from '../policy/rule.ts'
import type { XdsMatcher_OnMatchInit as OnMatchInit } from '../../wire/generated/xds-matcher.ts'
import { concernOf, concernOfAll } from './concern.ts'
import { type Decider, decider, deciderInOne, type DeciderOptions, formulasOf } from './decider.ts'
import type { Extension } from './extension.ts'
import { refusals, type Refusal, severalIds } from './federation.ts'
import type { Formula } from './formula.ts'
import type { PeerSource } from './peer.ts'
import { policyList } from './policy-list.ts'
import { predicate } from './predicate.ts'
import { namedAction, goOn } from './named-action.ts'
import { type FilterName, type RbacFilter, rbacExtension, refuseEverything } from './rbac-filter.ts'
import { boundOfRule, reasonOf, targetFormula } from './rule-formula.ts'
import type { Place } from './test-formula.ts'

/** The chain the filters are for. */
export type RbacOptions = RequestOptions | ConnectionOptions

interface CommonOptions {
  /** `certificate` by default. */
  readonly peer?: PeerSource
  /** Somebody in front of the filters refuses callers whose certificate has several names. */
  readonly oneName?: boolean
  /** Federation that has ended by then is left out; without it, federation that ends at all needs `ext_authz`. */
  readonly now?: Date
  /** Rules that are walked one after the other; more are divided by caller and path. */
  readonly mostInList?: number
  /** Of conditions in all filters together; more is left to `ext_authz`. */
  readonly mostTests?: number
}

interface RequestOptions extends CommonOptions {
  readonly kind: 'http'
  /** The filters are for requests that no rule concerns which Envoy cannot be told; who uses them asks about those of `concerns`. */
  readonly apart?: boolean
  /** Nobody verifies tokens in front of the filters, nor does whoever is asked learn of any: nobody has claims. */
  readonly noTokens?: boolean
}

/** Bytes of which nothing is known but who sends them. */
interface ConnectionOptions extends CommonOptions {
  readonly kind: 'network'
  /**
   * All that decides in one filter, named `allow`, behind that of `audit`: where filters of a chain come one by one, some would for a
   * moment be of other policies than the rest. A matcher, whatever the number of rules.
   */
  readonly inOne?: boolean
}

export interface CompiledRbac {
  /**
   * For the chain, in this order and before all that passes anything on. They refuse everything where `concerns` is `true`.
   */
  readonly filters: readonly Extension[]
  /** Rules that Envoy cannot be told, by name. */
  readonly external: readonly string[]
  /**
   * Requests that must be asked about at `ext_authz`, instead of these filters: those that such a rule might be about, by headers and
   * the caller's ID. `false`: none; `true`: all, as always without `apart`.
   */
  readonly concerns: Formula
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
  const { kind, peer = 'certificate', now, oneName, mostInList = defaults.mostInList, mostTests = defaults.mostTests } = options
  const [inOne, apart, noTokens] = options.kind === 'http' ? [false, options.apart, options.noTokens] : [options.inOne]
  const place: Place = { destination, kind, paths: 'any', noTokens }
  const rules = set.rules.filter(rule => targetFormula(rule, place) !== false)
  const federation = refusals(set, destination, { now, oneName })
  const reason = `the workload's rules are more than ${mostTests} tests`
  const tooMuch = () => leftToOthers(rules.map(({ name }) => ({ name, reason })), kind)
  if (rules.reduce((sum, rule) => sum + matchesIn(rule), 0) > mostTests) return tooMuch()
  const others = new Map(rules.map(rule => [rule, whyNot(rule, place)] as const).filter(([, why]) => why !== undefined))
  const external = [
    ...federation.timed.map(({ name }) => ({ name, reason: 'ends at a time' })),
    ...[...others].map(([{ name }, reason = '']) => ({ name, reason }))
  ]
  const concerns = external.length > 0 && (apart !== true ||
    concernOfAll([...federation.timed.map(({ when }) => when), ...[...others.keys()].map(rule => concernOf(rule, place))]))
  if (concerns === true) return leftToOthers(external, kind)
  const budget = budgetOf(mostTests)
  try {
    const made = inOne === true ? filtersInOne : filtersOf
    const told: Told = { rules, isTold: rule => !others.has(rule), defaultAction: set.defaultAction, refused: federation.refusals }
    const extensions = made(told, { place, peer, mostInList, spend: budget }).map(filter => rbacExtension(filter, kind))
    return { filters: extensions, ...namesOf(external), concerns, bytes: sizeOf(extensions) }
  } catch (error) {
    if (!(error instanceof TooMuch)) throw error
    return tooMuch()
  }
}

interface Told extends Pick<PolicySet, 'rules' | 'defaultAction'> {
  /** What is not told Envoy counts all the same where it closes the workload. */
  readonly isTold: (rule: Rule) => boolean
  readonly refused: readonly Refusal[]
}

function filtersOf ({ rules, isTold, defaultAction, refused }: Told, options: DeciderOptions): RbacFilter[] {
  const enforced = rules.filter(({ shadow }) => !shadow)
  const decided = (name: FilterName, decide: (rules: readonly Rule[]) => Decider | undefined): RbacFilter[] => {
    const differs = rules.some(({ shadow, action }) => shadow && action === name)
    const [real, shadow] = [decide(enforced), differs ? decide(rules) : undefined]
    return real === undefined && shadow === undefined ? [] : [{ name, enforced: real, shadow }]
  }
  const meeting = (action: 'LOG' | 'DENY', some: readonly Rule[]) => some.length === 0 ? undefined : decider(action, some, options)
  return [
    ...refused.length === 0 ? [] : [{ name: 'federation', enforced: refuser(refused, options.peer), shadow: undefined } as const],
    ...decided('audit', rules => meeting('LOG', of('audit', rules).filter(isTold))),
    ...decided('deny', rules => meeting('DENY', of('deny', rules).filter(isTold))),
    // A workload that an `allow` rule is about refuses what none allows, be it that none can here.
    ...decided('allow', rules => of('allow', rules).length === 0 && defaultAction === 'allow' ? undefined
      : decider('ALLOW', of('allow', rules).filter(isTold), options))
  ]
}

function filtersInOne (told: Told, options: DeciderOptions): RbacFilter[] {
  const { rules, defaultAction, refused } = told
  const enforced = rules.filter(({ shadow }) => !shadow)
  const inOne = (rules: readonly Rule[]): Decider => {
    const allow = of('allow', rules)
    return refusing(refused, options.peer,
      deciderInOne(of('deny', rules), allow.length === 0 && defaultAction === 'allow' ? undefined : allow, options))
  }
  const differs = rules.some(({ shadow, action }) => shadow && (action === 'deny' || action === 'allow'))
  return [
    ...filtersOf({ ...told, rules: of('audit', rules), refused: [] }, options).filter(({ name }) => name === 'audit'),
    { name: 'allow', enforced: inOne(enforced), shadow: differs ? inOne(rules) : undefined }
  ]
}

function of (action: 'audit' | 'deny' | 'allow', rules: readonly Rule[]): Rule[] { return rules.filter(rule => rule.action === action) }

/** Of what is asked about one name the list is what costs Envoy least. */
function refuser (refused: readonly Refusal[], peer: PeerSource): Decider {
  if (refused.includes(severalIds)) return refusing(refused, peer)
  return { rules: policyList('DENY', refused.map(({ name, when }) => ({ name, caller: when, rest: true })), peer) }
}

function refusing (refused: readonly Refusal[], peer: PeerSource, others: OnMatchInit = goOn): Decider {
  return {
    matcher: {
      matcherList: { matchers: refused.flatMap(({ name, when }) => typeof when === 'boolean' ? []
        : [{ predicate: predicate(when, peer), onMatch: { action: namedAction(name, Action.DENY) } }]) },
      onNoMatch: others
    }
  }
}

/** What is in the way of telling Envoy a rule; `undefined`: nothing. */
function whyNot (rule: Rule, place: Place): string | undefined {
  const target = targetFormula(rule, place)
  if (target !== true) return reasonOf(target) ?? 'its target is about more than the workload'
  const [formula] = formulasOf([rule], boundOfRule(rule), place)
  if (formula === undefined) return undefined
  return rule.action === 'custom' ? `asks ${rule.provider}` : reasonOf(formula.caller) ?? reasonOf(formula.rest)
}

interface External { readonly name: string, readonly reason: string }

function leftToOthers (external: readonly External[], kind: RbacOptions['kind']): CompiledRbac {
  const filters = [rbacExtension(refuseEverything, kind)]
  return { filters, ...namesOf(external), concerns: true, bytes: sizeOf(filters) }
}

/** Several rules of one name are one, with a reason of one of them. */
function namesOf (external: readonly External[]): Pick<CompiledRbac, 'external' | 'reasons'> {
  const byName = new Map(external.map(({ name, reason }) => [name, reason]))
  return { external: [...byName.keys()], reasons: [...byName.values()] }
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
