import type { Decision } from '../../../src/authz/policy/decision.ts'
import { PolicyEngine } from '../../../src/authz/policy/policy-engine.ts'
import type { PolicySet } from '../../../src/authz/policy/policy-set.ts'
import type { AuthzRequest } from '../../../src/authz/policy/request.ts'
import { resolveSelectors } from '../../../src/authz/policy/resolve-selectors.ts'
import { Random } from '../../fakes/random.ts'
import { judge, marksOf } from './oracle.ts'
import { randomPolicies, selectedIds, widerRequest } from './policies-at-random.ts'

/** Decides the same requests by index and by oracle. `differences` has at most five, each with what it takes to see it again. */
export function compareAtRandom (seed: number, sets: number, requests: number): { differences: string[], seen: Map<string, number> } {
  const random = new Random(seed)
  const seen = new Map<string, number>()
  const count = (what: string) => seen.set(what, (seen.get(what) ?? 0) + 1)
  const differences: string[] = []
  for (let round = 0; round < sets && differences.length < 5; round++) {
    const set = resolveSelectors(randomPolicies(random, 12, true, true), selectedIds)
    const obeyed = { ...set, rules: set.rules.map(rule => ({ ...rule, shadow: false })) }
    const hasShadow = set.rules.some(({ shadow }) => shadow)
    const engine = new PolicyEngine(set)
    for (let i = 0; i < requests && differences.length < 5; i++) {
      const request = widerRequest(random)
      const decision = engine.decide(request)
      const answer = [told(decision), decision.shadow === undefined ? '' : told(decision.shadow)]
      const expected = [expect(set, request), hasShadow ? expect(obeyed, request) : '']
      if (answer[0] !== expected[0] || answer[1] !== expected[1]) {
        differences.push(JSON.stringify({ seed, round, i, answer, expected, request, rules: set.rules }))
      }
      count(`${decision.allowed ? 'allow' : 'deny'} ${decision.reason}`)
      if (decision.audits.length > 0) count('audited')
      if (decision.consult.length > 0) count('asked')
      if (hasShadow && answer[0] !== answer[1]) count('shadow differs')
    }
  }
  return { differences, seen }
}

/** Verdict with rule or reason, who marks it, and who is asked. */
function told ({ allowed, rule, reason, audits, consult }: Decision): string {
  return textOf(`${allowed ? 'allow' : 'deny'} ${rule ?? reason}`, audits, consult.map(one => `${one.rule} ${one.provider}`))
}

function expect (set: PolicySet, request: AuthzRequest): string {
  const verdict = judge(set, request)
  if (/^deny federation(\/|$)/.test(verdict)) return textOf(verdict, [], [])
  const { audits, asks } = marksOf(set, request)
  // What one document says of several workloads becomes several rules of one name, which audits tell once.
  return textOf(verdict, [...new Set(audits)], verdict.startsWith('allow') ? asks : [])
}

function textOf (verdict: string, audits: readonly string[], asks: readonly string[]): string {
  return `${verdict}; audits ${audits.join()}; asks ${asks.join()}`
}
