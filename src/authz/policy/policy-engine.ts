import { trustDomainOf, type SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { Decision } from './decision.ts'
import { anything, keysFor, keysOf } from './dimensions.ts'
import { allHold, applies } from './evaluate.ts'
import { RequestFacts } from './facts.ts'
import { matches, type Match } from './match.ts'
import type { FederationScope, PolicySet } from './policy-set.ts'
import type { AuthzRequest } from './request.ts'
import { RuleIndex } from './rule-index.ts'
import type { Action, Rule } from './rule.ts'

/** Decides by one policy set, in microseconds whatever its size. Holds nothing that changes: one request sees one revision. */
export class PolicyEngine {
  readonly set: PolicySet
  readonly #enforced: RuleDecider
  /** As if shadow rules were obeyed. */
  readonly #shadow: RuleDecider | undefined
  readonly #scopes = new Map<TrustDomain, FederationScope[]>()
  readonly #own: ReadonlySet<TrustDomain>

  /** @param set with its selectors resolved, see `resolveSelectors` */
  constructor (set: PolicySet) {
    this.set = set
    this.#enforced = new RuleDecider(set.rules.filter(({ shadow }) => !shadow), set)
    if (set.rules.some(({ shadow }) => shadow)) this.#shadow = new RuleDecider(set.rules, set)
    this.#own = new Set([...set.trustDomain === undefined ? [] : [set.trustDomain], ...set.trustDomainAliases])
    for (const scope of set.scopes) this.#scopes.set(scope.trustDomain, [...this.#scopes.get(scope.trustDomain) ?? [], scope])
  }

  decide (request: AuthzRequest): Decision {
    const facts = new RequestFacts(request)
    const foreign = this.#foreign(request)
    const enforced = foreign ?? this.#enforced.decide(facts)
    const shadow = foreign ?? this.#shadow?.decide(facts)
    return this.#shadow === undefined ? enforced : { ...enforced, shadow }
  }

  /** A refusal, when the caller is of another trust domain and the relationship with that does not cover the request. */
  #foreign ({ source, destination, time }: AuthzRequest): Decision | undefined {
    if (source.id === undefined || this.#own.size === 0) return undefined
    const domain = trustDomainOf(source.id)
    if (this.#own.has(domain)) return undefined
    if (this.#scopes.get(domain)?.some(scope => covers(scope, source.id as SpiffeId, destination.id, time)) === true) return undefined
    return { allowed: false, reason: 'federation', rule: `federation/${domain}`, audits: [], consult: [], revision: this.set.revision }
  }
}

function covers ({ accept, workloads, until }: FederationScope, id: SpiffeId, destination: SpiffeId | undefined, time: Date): boolean {
  const meets = (list: readonly Match[], value: string) => list.some(match => matches(match, value))
  if (until !== undefined && time >= until) return false
  return meets(accept, id) && (workloads === undefined || (destination !== undefined && meets(workloads, destination)))
}

/** Deny before allow; a workload that an `allow` rule is about refuses what none allows. */
class RuleDecider {
  readonly #set: PolicySet
  readonly #by: Readonly<Record<Action, RuleIndex>>
  /** `allow` rules by the workloads they are about. */
  readonly #about = new Map<string, Rule[]>()

  constructor (rules: readonly Rule[], set: PolicySet) {
    const index = (action: Action) => new RuleIndex(rules.filter(rule => rule.action === action))
    this.#set = set
    this.#by = { custom: index('custom'), deny: index('deny'), allow: index('allow'), audit: index('audit') }
    for (const rule of this.#by.allow.rules) {
      for (const key of keysOf('destination.id', rule)) {
        const known = this.#about.get(key)
        if (known === undefined) this.#about.set(key, [rule])
        else known.push(rule)
      }
    }
  }

  decide (facts: RequestFacts): Decision {
    const { revision } = this.#set
    const audits = [...new Set(this.#meeting('audit', facts).map(({ name }) => name))]
    const denied = this.#first('deny', facts)
    if (denied !== undefined) return { allowed: false, reason: 'rule', rule: denied.name, audits, consult: [], revision }
    const allowing = this.#first('allow', facts)
    const allowed = allowing !== undefined || (this.#set.defaultAction === 'allow' && !this.#hasAllow(facts))
    const consult = !allowed ? [] : this.#meeting('custom', facts).map(({ name, provider = '' }) => ({ rule: name, provider }))
    if (allowing !== undefined) return { allowed: true, reason: 'rule', rule: allowing.name, audits, consult, revision }
    return { allowed, reason: !allowed && this.#hasAllow(facts) ? 'no-rule-allows' : 'default', audits, consult, revision }
  }

  #first (action: 'deny' | 'allow', facts: RequestFacts): Rule | undefined {
    const index = this.#by[action]
    for (const position of index.find(facts, action === 'deny' ? 'match' : 'miss')) {
      const rule = index.rules[position] as Rule
      const truth = applies(rule, facts)
      if (action === 'deny' ? truth !== false : truth === true) return rule
    }
    return undefined
  }

  /** `custom` rules like `deny`: what cannot be known is asked about. */
  #meeting (action: 'audit' | 'custom', facts: RequestFacts): Rule[] {
    const index = this.#by[action]
    if (index.rules.length === 0) return []
    return index.find(facts, action === 'custom' ? 'match' : 'miss').map(position => index.rules[position] as Rule)
      .filter(rule => { const truth = applies(rule, facts); return action === 'custom' ? truth !== false : truth === true })
  }

  #hasAllow (facts: RequestFacts): boolean {
    const keys = keysFor('destination.id', facts)
    if (keys === undefined) return this.#by.allow.rules.length > 0
    return [...keys, anything].some(key => this.#about.get(key)?.some(({ target }) => allHold(target, facts) !== false))
  }
}
