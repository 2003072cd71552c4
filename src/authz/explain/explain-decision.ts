import type { Decision } from '../policy/decision.ts'
import { allHold, applies } from '../policy/evaluate.ts'
import { RequestFacts } from '../policy/facts.ts'
import { PolicyEngine } from '../policy/policy-engine.ts'
import type { PolicySet } from '../policy/policy-set.ts'
import type { AuthzRequest } from '../policy/request.ts'
import type { Rule } from '../policy/rule.ts'
import { whyNot, type FailedTest } from './explain-rule.ts'

export interface Explanation {
  readonly decision: Decision
  /** `allow` rules about the workload that did not let the request in, those that came nearest first, at most as many as asked for. */
  readonly candidates: readonly Candidate[]
  /** How many more there are. */
  readonly more: number
  /** Facts that nobody can know here, and for which a `deny` rule refused. */
  readonly unknown: boolean
}

export interface Candidate { readonly rule: string, readonly failed: readonly FailedTest[] }

/** How far a rule's evaluation got before it failed. */
const reach: Readonly<Record<string, number>> = { workloads: 0, from: 1, to: 2, when: 3 }

/** Decides, and tells why. Walks all rules: for people, not for traffic. */
export function explainDecision (set: PolicySet, request: AuthzRequest, most = 10): Explanation {
  const decision = new PolicyEngine(set).decide(request)
  const facts = new RequestFacts(request)
  const about = set.rules.filter(rule => rule.action === 'allow' && !rule.shadow && allHold(rule.target, facts) !== false)
  const candidates = about.map(rule => ({ rule: rule.name, failed: whyNot(rule, facts) })).filter(({ failed }) => failed.length > 0)
    .toSorted((a, b) => reachOf(b) - reachOf(a))
  return { decision, candidates: candidates.slice(0, most), more: Math.max(0, candidates.length - most),
    unknown: isUnknown(set, decision, facts) }
}

function reachOf ({ failed: [first] }: Candidate): number { return reach[first?.place.split(' ')[0] ?? ''] ?? 0 }

function isUnknown ({ rules }: PolicySet, { allowed, rule, reason }: Decision, facts: RequestFacts): boolean {
  if (allowed || reason !== 'rule') return false
  const named = rules.filter((one: Rule) => one.name === rule && one.action === 'deny' && !one.shadow)
  return named.every(one => applies(one, facts) !== true)
}
