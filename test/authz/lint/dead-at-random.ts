import { deadCodes } from '../../../src/authz/lint/dead-rules.ts'
import { lintPolicies } from '../../../src/authz/lint/lint-policies.ts'
import { PolicyEngine } from '../../../src/authz/policy/policy-engine.ts'
import type { PolicySet } from '../../../src/authz/policy/policy-set.ts'
import { Random } from '../../fakes/random.ts'
import { randomPolicies, randomRequest } from '../policy/policies-at-random.ts'

/**
 * Declares rules dead and has requests decided. With a rule that is dead in the enforced policies, also among the shadow rules.
 * @returns rules that were said to decide nothing, and did; how many were said to by code; how many decided
 */
export function lintAtRandom (seed: number, sets: number, requests: number): { wrong: string[], said: Map<string, number>,
  decided: number } {
  const random = new Random(seed)
  const said = new Map<string, number>()
  const wrong: string[] = []
  let decided = 0
  for (let round = 0; round < sets && wrong.length < 5; round++) {
    const set = withCopies(randomPolicies(random, 8), random)
    const findings = lintPolicies(set, { now: new Date('2026-06-01T00:00:00Z') }).filter(({ code }) => deadCodes.some(one => one === code))
    for (const { code } of findings) said.set(code, (said.get(code) ?? 0) + 1)
    const dead = new Map(findings.map(({ about = '', code, message }) => [about, `${code}: ${message}`]))
    const engine = new PolicyEngine(set)
    for (let i = 0; i < requests; i++) {
      const request = randomRequest(random)
      const { rule, shadow } = engine.decide(request)
      if (rule !== undefined) decided++
      for (const name of [rule, shadow?.rule]) {
        const why = name === undefined ? undefined : dead.get(name)
        if (why !== undefined) wrong.push(JSON.stringify({ seed, round, i, name, why, request, rules: set.rules }))
      }
    }
  }
  return { wrong, said, decided }
}

/** Chance alone seldom writes two rules about the same: some are said again, narrower, wider or as the other action. */
function withCopies (set: PolicySet, random: Random): PolicySet {
  const rules = [...set.rules]
  for (let i = 0; i < 6; i++) {
    const rule = random.pick(set.rules)
    const other = random.pick(set.rules)
    const copy = {
      ...rule,
      name: `copy/${i}`,
      action: random.pick(['allow', 'allow', 'deny', rule.action] as const),
      from: random.chance(0.5) ? rule.from?.slice(0, 1) : rule.from === undefined ? other.from : undefined,
      to: random.chance(0.5) ? rule.to : random.chance(0.5) ? undefined : [...rule.to ?? [[]], ...other.to ?? []],
      when: random.chance(0.8) ? rule.when : [...rule.when, ...other.when, ...other.target]
    }
    rules.splice(random.below(rules.length + 1), 0, copy)
  }
  return { ...set, rules }
}
