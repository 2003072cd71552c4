import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import { matches } from '../policy/match.ts'
import type { PolicySet } from '../policy/policy-set.ts'
import { all, any, not, type Formula } from './formula.ts'
import { textFormula } from './text-formula.ts'

/** A refusal that comes before all rules. */
export interface Refusal { readonly name: string, readonly when: Formula }

/** Of a certificate with several URI SANs each filter would see the one that it looks for: an SVID has one (X.509-SVID §2). */
export const severalIds: Refusal = { name: 'several-uri-sans', when: { subject: 'peer', text: { contains: ',' } } }

/**
 * Who is refused before any rule is looked at: callers with several IDs, and those of other trust domains whose relationship does not cover
 * the workload.
 * @param now scopes that end later than this are `timed`, with whom they let in until then: Envoy has no clock. Of those that have ended
 * nothing is left
 * @param oneName somebody else refuses callers with several
 */
export function refusals (
  { trustDomain, trustDomainAliases, scopes }: PolicySet, destination: SpiffeId,
  { now, oneName = false }: { readonly now: Date | undefined, readonly oneName?: boolean | undefined }
): { readonly refusals: readonly Refusal[], readonly timed: readonly Refusal[] } {
  const first = oneName ? [] : [severalIds]
  const own = [...trustDomain === undefined ? [] : [trustDomain], ...trustDomainAliases]
  if (own.length === 0) return { refusals: first, timed: [] }
  const here = scopes.filter(({ trustDomain: domain, workloads, until }) => !own.includes(domain) &&
    (workloads === undefined || workloads.some(match => matches(match, destination))) &&
    !(until !== undefined && now !== undefined && until <= now))
  const domains = [...new Set(here.map(scope => scope.trustDomain))].toSorted()
  const scoped = domains.map((domain): Refusal => {
    const accepted = here.filter(scope => scope.trustDomain === domain).flatMap(({ accept }) => accept)
    return { name: `federation/${domain}`, when: all([idOf(domain), not(any(accepted.map(match => textFormula('peer', match))))]) }
  })
  const others: Refusal = {
    name: 'federation', when: all([{ subject: 'peer', text: { prefix: 'spiffe://' } }, not(any([...own, ...domains].map(idOf)))])
  }
  const timed = domains.map((domain): Refusal => {
    const ending = here.filter(scope => scope.trustDomain === domain && scope.until !== undefined)
    return { name: `federation/${domain}`, when: any(ending.flatMap(({ accept }) => accept).map(match => textFormula('peer', match))) }
  })
  return { refusals: [...first, ...scoped, others], timed: timed.filter(({ when }) => when !== false) }
}

function idOf (domain: string): Formula {
  return any([{ subject: 'peer', text: { exact: `spiffe://${domain}` } }, { subject: 'peer', text: { prefix: `spiffe://${domain}/` } }])
}
