import { checkValue, type ConfigProblem } from '../../runtime/config-file.ts'
import { explainDecision, type Explanation } from '../explain/explain-decision.ts'
import type { Decision } from '../policy/decision.ts'
import { PolicyEngine } from '../policy/policy-engine.ts'
import type { PolicySet } from '../policy/policy-set.ts'
import { documentsOfKind, malformed, type PolicyText } from '../policy/read-policies.ts'
import type { AuthzRequest } from '../policy/request.ts'
import { policyTestDocument, type Expectation, type PolicyTestDocument } from './policy-test-schema.ts'
import { requestsOf } from './test-requests.ts'

export interface PolicyTests {
  readonly document: PolicyTestDocument
  /** `file:line` of the test with this position. */
  readonly where: (position: number) => string
}

/** @throws {SpiffeError} `policy_malformed`, with every problem and its place */
export function readPolicyTests (texts: readonly PolicyText[]): readonly PolicyTests[] {
  const problems: ConfigProblem[] = []
  const tests: PolicyTests[] = []
  for (const one of texts.flatMap(text => documentsOfKind(text, 'PolicyTest'))) {
    const reading = checkValue(policyTestDocument, one.raw, path => one.where(path))
    if (reading.problems === undefined) tests.push({ document: reading.value, where: position => one.where(['tests', position]) })
    else problems.push(...reading.problems)
  }
  if (problems.length > 0) throw malformed(problems)
  return tests
}

/** A request that is answered otherwise than its test says. */
export interface TestFailure {
  readonly test: string
  readonly where: string
  readonly request: AuthzRequest
  /** What differs: `verdict: expected allow, got deny`. */
  readonly differences: readonly string[]
  readonly explanation: Explanation
}

export interface TestReport {
  readonly revision: string
  readonly tests: number
  /** More than tests, where these list several values. */
  readonly requests: number
  readonly failures: readonly TestFailure[]
  /** `allow` and `deny` rules that decided no request of any test. */
  readonly untested: readonly string[]
}

/** @param set with its selectors resolved @param now for requests without a time */
export function runPolicyTests (set: PolicySet, all: readonly PolicyTests[], now: Date): TestReport {
  const engine = new PolicyEngine(set)
  const failures: TestFailure[] = []
  const decided = new Set<string>()
  let tests = 0
  let requests = 0
  for (const { document, where } of all) {
    for (const [position, { name, request: meant, expect }] of document.tests.entries()) {
      tests++
      for (const request of requestsOf(meant, document.time ?? now)) {
        requests++
        const decision = engine.decide(request)
        if (decision.rule !== undefined) decided.add(decision.rule)
        const differences = differencesOf(decision, expect)
        if (differences.length === 0) continue
        failures.push({
          test: `${document.name}: ${name}`, where: where(position), request, differences, explanation: explainDecision(set, request, 5)
        })
      }
    }
  }
  const deciding = set.rules.filter(({ action, shadow }) => !shadow && (action === 'allow' || action === 'deny')).map(({ name }) => name)
  return { revision: set.revision, tests, requests, failures, untested: [...new Set(deciding)].filter(name => !decided.has(name)) }
}

function differencesOf (decision: Decision, expect: Expectation): string[] {
  const { rule, reason, consult } = decision
  const verdict = (one: Decision | undefined) => one === undefined ? 'no shadow rule at all' : one.allowed ? 'allow' : 'deny'
  const audits = [...decision.audits].toSorted().join(', ')
  const providers = consult.map(({ provider }) => provider).toSorted().join(', ')
  return [
    ...differs('verdict', expect.verdict, verdict(decision)),
    ...differs('rule', expect.rule, rule ?? `none (${reason})`),
    ...differs('reason', expect.reason, reason),
    ...differs('audits', expect.audits?.toSorted().join(', '), audits),
    ...differs('providers', expect.providers?.toSorted().join(', '), providers),
    ...differs('shadow', expect.shadow, verdict(decision.shadow))
  ]
}

function differs (what: string, expected: string | undefined, got: string): string[] {
  const told = (text: string) => text === '' ? 'none' : text
  return expected === undefined || expected === got ? [] : [`${what}: expected ${told(expected)}, got ${told(got)}`]
}
