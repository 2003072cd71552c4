import type { PolicySet } from '../policy/policy-set.ts'
import { finding, type Finding } from './finding.ts'

/** What is odd about the relationships with other trust domains. */
export function federation (
  { scopes, trustDomain: own, trustDomainAliases: aliases }: PolicySet, now: Date
): readonly Finding[] {
  return scopes.flatMap(({ trustDomain, accept, until }) => {
    const about = `federation/${trustDomain}`
    if (trustDomain === own || aliases.includes(trustDomain)) {
      return [finding('federation-with-itself', about, 'is about the own trust domain, whose callers need no scope: it decides nothing')]
    }
    const whole = accept.some(match => match.kind === 'present' || (match.kind === 'prefix' && match.value === `spiffe://${trustDomain}/`))
    return [
      ...until !== undefined && until <= now ? [finding('federation-over', about,
        `ended at ${until.toISOString()}: all its callers are refused`)] : [],
      ...whole ? [finding('federation-whole-domain', about, `accepts every ID of ${trustDomain}, future ones too`)] : [],
      ...accept.length === 0 ? [finding('federation-accepts-nobody', about, `accepts no ID of ${trustDomain}`)] : []
    ]
  })
}
