import t from 'tap'
import type { Decided } from '../../../src/authz/decider.ts'
import { CheckResponses, responseTo } from '../../../src/authz/ext-authz/check-response.ts'
import { encodeMessage } from '../../../src/wire/encode-message.ts'
import { CheckResponse } from '../../../src/wire/generated/envoy-authorization.ts'
import { chooseSeed, Random } from '../../fakes/random.ts'

/** Few values each, so that most answers differ in one thing from one that is known. */
function randomDecision (random: Random, depth = 0): Decided {
  const allowed = random.chance(0.5)
  const reason = random.pick(['rule', 'no-rule-allows', 'default', 'federation', 'custom'] as const)
  const isNamed = reason === 'rule' || reason === 'federation' || random.chance(0.3)
  const rule = isNamed ? random.pick(['federation/a.test', 'p/a', 'p/b']) : undefined
  return {
    allowed, reason, rule, audits: random.chance(0.2) ? ['p/marks'] : [], consult: [], revision: random.pick(['one', 'two']),
    ...depth > 0 || random.chance(0.7) ? {} : { shadow: randomDecision(random, 1) },
    // Without a verdict: the next who was asked could not say, or a dry run does not obey it.
    ...random.chance(0.9) ? {} : { bundles: new Map([['shop', random.pick(['r1', 'r2'])]]) },
    ...random.chance(0.9) ? {} : { verdict: { allowed, httpStatus: 401, body: random.pick(['x', 'y']) } }
  }
}

t.test('an answer that is known is the one that would be made', t => {
  const random = new Random(chooseSeed())
  const responses = new CheckResponses()
  let wrong = 0
  for (let i = 0; i < 5_000; i++) {
    const decided = randomDecision(random)
    if (!Buffer.from(encodeMessage(CheckResponse, responseTo(decided))).equals(responses.encode(decided))) wrong++
  }
  t.equal(wrong, 0)
  const allowed: Decided = { allowed: true, reason: 'rule', rule: 'p/a', audits: [], consult: [], revision: 'one' }
  t.equal(responses.encode(allowed), responses.encode({ ...allowed }), 'made once')
  t.end()
})
