import { isDeepStrictEqual } from 'node:util'
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
    const set = resolveSelectors(randomPolicies(random, 12, true), selectedIds)
    const obeyed = { ...set, rules: set.rules.map(rule => ({ ...rule, shadow: false })) }
    const hasShadow = set.rules.some(({ shadow }) => shadow)
    const engine = new PolicyEngine(set)
    for (let i = 0; i < requests && differences.length < 5; i++) {
      const request = widerRequest(random)
      const decision = engine.decide(request)
      const answer = [told(decision), ...decision.shadow === undefined ? [] : [told(decision.shadow)]]
      const expected = [expect(set, request), ...hasShadow ? [expect(obeyed, request)] : []]
      if (!isDeepStrictEqual(answer, expected)) {
        differences.push(JSON.stringify({ seed, round, i, answer, expected, request, rules: set.rules }))
      }
      count(`${decision.allowed ? 'allow' : 'deny'} ${decision.reason}`)
      if (decision.audits.length > 0) count('audited')
      if (decision.consult.length > 0) count('asked')
      if (answer.length === 2 && !isDeepStrictEqual(answer[0], answer[1])) count('shadow differs')
    }
  }
  return { differences, seen }
}

interface Told { readonly verdict: string, readonly audits: readonly string[], readonly asks: readonly string[] }

function told ({ allowed, rule, reason, audits, consult }: Decision): Told {
  const asks = consult.map(one => `${one.rule} ${one.provider}`)
  return { verdict: `${allowed ? 'allow' : 'deny'} ${rule ?? reason}`, audits, asks }
}

function expect (set: PolicySet, request: AuthzRequest): Told {
  const verdict = judge(set, request)
  if (verdict.startsWith('deny federation/')) return { verdict, audits: [], asks: [] }
  const { audits, asks } = marksOf(set, request)
  // What one document says of several workloads becomes several rules of one name, which audits tell once.
  return { verdict, audits: [...new Set(audits)], asks: verdict.startsWith('allow') ? asks : [] }
}
