import type { PartnerState } from '../../federation/client/partner-state.ts'
import { trustEnds } from '../../federation/client/trust-ends.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { Metrics } from '../../runtime/metrics.ts'
import type { Bundle } from '../../spiffe/bundle.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'

export interface PartnerMetricsDeps {
  readonly partners: () => Iterable<TrustDomain>
  readonly bundleOf: (trustDomain: TrustDomain) => Bundle | undefined
  /** Of those that this replica follows. */
  readonly states: () => ReadonlyMap<TrustDomain, PartnerState>
  readonly clock: Clock
}

/** Partners with series of their own: the first by name. All count. */
export const mostShown = 200

/** What every replica knows of partners by their bundles, and what the one that follows them sees. */
export function addPartnerMetrics (metrics: Metrics, { partners, bundleOf, states, clock }: PartnerMetricsDeps): void {
  const each = (name: string, help: string, valueOf: (trustDomain: TrustDomain) => number | undefined) => {
    const gauge = metrics.gauge<'trust_domain'>({ name: `federation_${name}`, help, labels: ['trust_domain'] })
    gauge.collectEach(() => [...partners()].toSorted().slice(0, mostShown).flatMap(domain => {
      const value = valueOf(domain)
      return value === undefined ? [] : [[value, { trust_domain: domain }] as const]
    }))
  }
  const secondsTo = (at: Date) => (at.getTime() - clock.now().getTime()) / 1_000
  metrics.gauge({ name: 'federation_partners', help: 'Trust domains whose bundles are wanted' }).collect(() => [...partners()].length)
  each('trust_ends_seconds', 'Time until nothing of the partner is accepted unless a newer bundle comes; 0 or less: nothing is', domain => {
    const bundle = bundleOf(domain)
    const ends = bundle && trustEnds(bundle)
    if (ends !== undefined) return secondsTo(ends)
    // Of one that has JWT keys alone there is nothing to tell.
    return (bundle?.jwtAuthorities.length ?? 0) > 0 ? undefined : 0
  })
  each('sequence', 'Sequence number of the partner\'s bundle', domain => {
    const sequence = bundleOf(domain)?.sequenceNumber
    return sequence === undefined ? undefined : Number(sequence)
  })
  each('last_success_age_seconds', 'Time since a source of the partner\'s bundle last answered, where it is followed', domain => {
    const at = states().get(domain)?.lastSuccessAt
    return at === undefined ? undefined : -secondsTo(at)
  })
  const failures = 'Polls in a row in which the partner\'s endpoint gave nothing, where it is followed'
  each('failures', failures, domain => states().get(domain)?.failures)
  const source = 'Which source last gave the partner\'s bundle, where it is followed: 0 its endpoint, 1 its first copy, and so on'
  each('source', source, domain => {
    const { sources, suppliedBy } = states().get(domain) ?? {}
    const at = sources?.findIndex(({ name }) => name === suppliedBy) ?? -1
    return at < 0 ? undefined : at
  })
}
