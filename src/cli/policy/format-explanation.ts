import type { Explanation } from '../../authz/explain/explain-decision.ts'
import { printable } from '../pretty.ts'

const sentences = {
  rule: '',
  'no-rule-allows': 'there are allow rules about the workload, and none lets this in',
  default: 'no allow rule is about the workload: what the settings say',
  federation: 'the relationship with the caller\'s trust domain does not cover it',
  custom: 'somebody else was asked, and refused or could not say'
} as const

/** The verdict, what decided, and why other allow rules did not. */
export function formatExplanation ({ decision, candidates, more, unknown }: Explanation): string {
  const { allowed, rule, reason, audits, consult, shadow, revision } = decision
  const others = allowed ? [] : candidates.flatMap(({ rule: name, failed }) => [
    `  ${name}`,
    ...failed.map(({ place, wanted, found }) => `    ${place}: ${wanted}; ${foundText(found)}`)
  ])
  return [
    `${allowed ? 'ALLOWED' : 'DENIED'} by ${rule === undefined ? reason : `rule ${rule}`}`,
    ...sentences[reason] === '' ? [] : [`  ${sentences[reason]}`],
    ...unknown ? ['  the rule asks what nobody can know of this request: a deny rule then refuses'] : [],
    ...consult.map(({ rule: name, provider }) => `only if ${provider} says so too (rule ${name})`),
    ...audits.map(name => `audited by rule ${name}`),
    ...shadow === undefined ? [] : [`with shadow rules: ${shadow.allowed ? 'ALLOWED' : 'DENIED'} by ${shadow.rule ?? shadow.reason}`],
    ...others.length === 0 ? [] : ['Allow rules about the workload, and what each lacks:', ...others],
    ...!allowed && more > 0 ? [`  and ${more} more`] : [],
    `revision ${revision}`
  ].map(line => `${printable(line)}\n`).join('')
}

function foundText (found: readonly string[] | undefined): string {
  if (found === undefined) return 'nobody can know it here'
  return found.length === 0 ? 'there is none' : `it is ${found.join(', ')}`
}
