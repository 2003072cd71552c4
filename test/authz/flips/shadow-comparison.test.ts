import t from 'tap'
import { isDeepStrictEqual } from 'node:util'
import { ShadowComparison } from '../../../src/authz/flips/shadow-comparison.ts'
import { PolicyEngine } from '../../../src/authz/policy/policy-engine.ts'
import { chooseSeed, Random } from '../../fakes/random.ts'
import { randomRequest } from '../policy/policies-at-random.ts'
import { BruteForce, randomChange } from './record-at-random.ts'

t.test('a candidate on live traffic', t => {
  const random = new Random(chooseSeed())
  let flips = 0
  for (let round = 0; round < 20; round++) {
    const { before, after } = randomChange(random)
    const [enforced, candidate] = [new PolicyEngine(before), new PolicyEngine(after)]
    const [all, some, few] = [new ShadowComparison(candidate), new ShadowComparison(candidate, { oneIn: 10 }),
      new ShadowComparison(candidate, { mostFlips: 2 })]
    const brute = new BruteForce(before, after)
    for (let i = 0; i < 100; i++) {
      const request = randomRequest(random)
      const decision = enforced.decide(request)
      brute.add(request)
      for (const shadow of [all, some, few]) shadow.observe(request, decision, () => `r${i}`)
    }
    const report = all.report()
    const told = new Map(report.flips.map(({ source, destination, operation, before, after, count }) =>
      [[source, destination, operation, before, after].join(', '), count]))
    if (!isDeepStrictEqual(told, brute.counts)) t.same(Object.fromEntries(told), Object.fromEntries(brute.counts))
    flips += told.size
    if (some.report().compared !== 10) t.equal(some.report().compared, 10)
    const bounded = few.report()
    if (bounded.flips.length > 2) t.equal(bounded.flips.length, 2)
    const kept = bounded.flips.reduce((sum, { count }) => sum + count, 0)
    const expected = { flipped: report.flipped, untold: report.flipped - kept }
    if (bounded.flipped !== expected.flipped || bounded.untold !== expected.untold) t.match(bounded, expected)
  }
  t.ok(flips > 100, `${flips} flips`)
  t.end()
})

t.test('a candidate that fails harms nobody', t => {
  const random = new Random(chooseSeed())
  const { before, after } = randomChange(random)
  const broken = new PolicyEngine(after)
  broken.decide = () => { throw new Error('a bug') }
  const shadow = new ShadowComparison(broken)
  const request = randomRequest(random)
  t.equal(shadow.observe(request, new PolicyEngine(before).decide(request)), false)
  t.match(shadow.report(), { failed: 1, compared: 0, flipped: 0 })
  t.end()
})
