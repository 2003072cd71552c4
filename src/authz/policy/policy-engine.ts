import { trustDomainOf, type SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { Decision, Reason } from './decision.ts'
import { ByKey, keysOf } from './dimensions.ts'
import { allHold, applies } from './evaluate.ts'
import { type Fact, RequestFacts } from './facts.ts'
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

  /**
   * A refusal, when the caller is of another trust domain and the relationship with that does not cover the request. The authority of such
   * a domain can also write names that are no SPIFFE IDs: who has one is not let in as somebody without a name.
   */
  #foreign ({ source, destination, time }: AuthzRequest): Decision | undefined {
    if (source.invalidId !== undefined) return this.#refusal('federation')
    if (source.id === undefined || this.#own.size === 0) return undefined
    const domain = trustDomainOf(source.id)
    if (this.#own.has(domain)) return undefined
    if (this.#scopes.get(domain)?.some(scope => covers(scope, source.id as SpiffeId, destination.id, time)) === true) return undefined
    return this.#refusal(`federation/${domain}`)
  }

  #refusal (rule: string): Decision {
    return { allowed: false, reason: 'federation', rule, audits: [], consult: [], revision: this.set.revision }
  }
}

function covers ({ accept, workloads, until }: FederationScope, id: SpiffeId, destination: SpiffeId | undefined, time: Date): boolean {
  const meets = (list: readonly Match[], value: string) => list.some(match => matches(match, value))
  if (until !== undefined && time >= until) return false
  return meets(accept, id) && (workloads === undefined || (destination !== undefined && meets(workloads, destination)))
}

const nothing: readonly Rule[] = []
const destinationId: Fact = { name: 'destination.id' }

/** Deny before allow; a workload that an `allow` rule is about refuses what none allows. */
class RuleDecider {
  readonly #set: PolicySet
  readonly #by: Readonly<Record<Action, RuleIndex>>
  /** `allow` rules by the workloads they are about. */
  readonly #about = new ByKey<Rule[]>()
  /** Those without anything of the request in them, each made once: by rule, or by reason where there is none. */
  readonly #known = new Map<Rule | Reason, Decision>()

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
    const audits = this.#meeting('audit', facts)
    const denied = this.#first('deny', facts)
    if (denied !== undefined) return this.#decision(false, 'rule', denied, audits)
    const allowing = this.#first('allow', facts)
    if (allowing !== undefined) return this.#decision(true, 'rule', allowing, audits, this.#meeting('custom', facts))
    const hasAllow = this.#hasAllow(facts)
    if (hasAllow) return this.#decision(false, 'no-rule-allows', undefined, audits)
    if (this.#set.defaultAction === 'deny') return this.#decision(false, 'default', undefined, audits)
    return this.#decision(true, 'default', undefined, audits, this.#meeting('custom', facts))
  }

  #decision (
    allowed: boolean, reason: Reason, rule: Rule | undefined, audits: readonly Rule[], custom: readonly Rule[] = nothing
  ): Decision {
    const { revision } = this.#set
    const named = rule === undefined ? {} : { rule: rule.name }
    if (audits.length + custom.length > 0) {
      return {
        allowed, reason, ...named, audits: [...new Set(audits.map(({ name }) => name))],
        consult: custom.map(({ name, provider = '' }) => ({ rule: name, provider })), revision
      }
    }
    const known = this.#known.get(rule ?? reason)
    if (known !== undefined) return known
    const decision: Decision = { allowed, reason, ...named, audits: [], consult: [], revision }
    this.#known.set(rule ?? reason, decision)
    return decision
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
  #meeting (action: 'audit' | 'custom', facts: RequestFacts): readonly Rule[] {
    const index = this.#by[action]
    if (index.rules.length === 0) return nothing
    return index.find(facts, action === 'custom' ? 'match' : 'miss').map(position => index.rules[position] as Rule)
      .filter(rule => { const truth = applies(rule, facts); return action === 'custom' ? truth !== false : truth === true })
  }

  #hasAllow (facts: RequestFacts): boolean {
    const values = facts.get(destinationId)
    if (values === undefined) return this.#by.allow.rules.length > 0
    return this.#about.some(values, rules => rules.some(({ target }) => allHold(target, facts) !== false))
  }
}
