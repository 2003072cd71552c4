import { decisionEvent, type DecisionEvent } from '../../../src/authz/decision-log/decision-event.ts'
import { DecisionRecord } from '../../../src/authz/decision-log/decision-record.ts'
import { Mask } from '../../../src/authz/decision-log/mask.ts'
import { PolicyEngine } from '../../../src/authz/policy/policy-engine.ts'
import type { PolicySet } from '../../../src/authz/policy/policy-set.ts'
import type { AuthzRequest } from '../../../src/authz/policy/request.ts'
import { regularPath } from '../../../src/authz/policy/request-path.ts'
import type { Random } from '../../fakes/random.ts'
import { judge } from '../policy/oracle.ts'
import { randomPolicies, randomRequest } from '../policy/policies-at-random.ts'

const mask = new Mask([])

/** Two policy sets of which one came from the other by some changes. */
export function randomChange (random: Random): { before: PolicySet, after: PolicySet } {
  const before = randomPolicies(random)
  const other = randomPolicies(random)
  const kept = before.rules.filter(() => random.chance(0.8))
  const at = random.below(kept.length + 1)
  return { before, after: { ...before, revision: other.revision,
    rules: [...kept.slice(0, at), ...other.rules.slice(0, 3), ...kept.slice(at)] } }
}

/** Requests with what was answered, as a log has them. */
export function * recordedAtRandom (random: Random, engine: PolicyEngine, count: number): Iterable<{ request: AuthzRequest,
  event: DecisionEvent }> {
  for (let i = 0; i < count; i++) {
    const request = randomRequest(random)
    const record = new DecisionRecord('0123456789abcdef01', i, request, engine.decide(request), 0.01)
    yield { request, event: decisionEvent(record, { labels: { id: 'test' }, mask }) }
  }
}

/** Flips as a walk over all rules finds them, and as words say them: `source, destination, operation, before, after` and how many. */
export class BruteForce {
  readonly counts = new Map<string, number>()
  readonly #before: PolicySet
  readonly #after: PolicySet

  constructor (before: PolicySet, after: PolicySet) {
    this.#before = before
    this.#after = after
  }

  add (request: AuthzRequest): void {
    const [was = '', is = ''] = [this.#before, this.#after].map(set => judge(set, request).split(' ', 1)[0])
    if (was === is) return
    const { source, destination, http } = request
    const operation = http === undefined ? `TCP on ${destination.port}`
      : `${http.method} ${regularPath(http.path) ?? http.path.replace(/\?.*$/, '')} on ${destination.port}`
    const key = [source.id, destination.id, operation, was, is].join(', ')
    this.counts.set(key, (this.counts.get(key) ?? 0) + 1)
  }
}
