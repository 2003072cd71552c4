import { describeMatch } from '../explain/describe-match.ts'
import type { FactName } from '../policy/facts.ts'
import type { Rule, Test } from '../policy/rule.ts'
import { finding, type Finding } from './finding.ts'
import { whyImpossible } from './possible-values.ts'

/** What bytes that are no HTTP do not have. */
const httpFacts: ReadonlySet<FactName> = new Set<FactName>(['host', 'method', 'path', 'header', 'claim', 'jwt.principal', 'jwt.audience',
  'jwt.presenter'])

/** Values that are written as no request has them, and `deny` rules that refuse more than they say. */
export function oddValues (rule: Rule, now: Date): readonly Finding[] {
  const tests = [...rule.target, ...(rule.from ?? []).flat(), ...(rule.to ?? []).flat(), ...rule.when]
  return [
    ...tests.flatMap(test => impossible(rule, test, now)),
    ...tests.flatMap(({ fact, any = [], none = [] }) => fact.name !== 'method' ? [] : [...any, ...none].flatMap(match =>
      match.kind === 'exact' && /^[a-z]+$/.test(match.value)
        ? [finding('method-in-lower-case', rule.name, `the method ${match.value}: ${match.value.toUpperCase()} is another`)] : [])),
    ...refusesTcp(rule) ? [finding('deny-without-port', rule.name,
      'asks about HTTP and names no port: it refuses all TCP to its workloads')] : []
  ]
}

function impossible (rule: Rule, { fact, any = [], none = [] }: Test, now: Date): Finding[] {
  // Windows that are over are told of with the rule.
  if (fact.name === 'time') return []
  return [...any, ...none].flatMap(match => {
    const why = whyImpossible(fact.name, match, now)
    return why === undefined ? [] : [finding('value-never-matches', rule.name, `${fact.name} ${describeMatch(match)}: ${why}`)]
  })
}

/** An alternative of the rule asks about HTTP, and nothing that TCP has could be other than wanted. */
function refusesTcp ({ action, target, to = [[]], when }: Rule): boolean {
  if (action !== 'deny') return false
  return to.some(operation => {
    const tests = [...target, ...operation, ...when]
    return tests.some(({ fact }) => httpFacts.has(fact.name)) && !tests.some(({ fact }) => fact.name === 'destination.port')
  })
}
