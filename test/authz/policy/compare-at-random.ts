import { PolicyEngine } from '../../../src/authz/policy/policy-engine.ts'
import { Random } from '../../fakes/random.ts'
import { judge } from './oracle.ts'
import { randomPolicies, randomRequest } from './policies-at-random.ts'

/** Decides the same requests by index and by oracle. `differences` has at most five, each with what it takes to see it again. */
export function compareAtRandom (seed: number, sets: number, requests: number): { differences: string[], seen: Map<string, number> } {
  const random = new Random(seed)
  const seen = new Map<string, number>()
  const differences: string[] = []
  for (let round = 0; round < sets && differences.length < 5; round++) {
    const set = randomPolicies(random)
    const engine = new PolicyEngine(set)
    for (let i = 0; i < requests && differences.length < 5; i++) {
      const request = randomRequest(random)
      const { allowed, reason, rule } = engine.decide(request)
      const verdict = allowed ? 'allow' : 'deny'
      const expected = judge(set, request)
      const answer = `${verdict} ${rule ?? reason}`
      if (answer !== expected) differences.push(JSON.stringify({ seed, round, i, answer, expected, request, rules: set.rules }))
      seen.set(`${verdict} ${reason}`, (seen.get(`${verdict} ${reason}`) ?? 0) + 1)
    }
  }
  return { differences, seen }
}
