import t from 'tap'
import type { PartnerState } from '../../src/federation/client/partner-state.ts'
import { createMetrics } from '../../src/runtime/metrics.ts'
import { addPartnerMetrics, mostShown } from '../../src/server/federation/partner-metrics.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { parseTrustDomain, type TrustDomain } from '../../src/spiffe/trust-domain.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { ManualClock } from '../fakes/clock.ts'

const [a, b, c] = ['a.test', 'b.test', 'c.test'].map(parseTrustDomain) as [TrustDomain, TrustDomain, TrustDomain]

void t.test('partners in figures', async t => {
  const clock = new ManualClock()
  const notAfter = new Date(clock.now().getTime() + 3_600_000)
  const { bundle } = await createTestAuthority('a.test', { notBefore: clock.now(), notAfter })
  const bundles = new Map<TrustDomain, Bundle>([
    [a, { ...bundle, sequenceNumber: 7n }], [b, { ...bundle, trustDomain: b, x509Authorities: [] }]
  ])
  const states = new Map([
    [a, {
      lastSuccessAt: clock.now(), failures: 2, suppliedBy: 'mirror', sources: [{ name: 'endpoint' }, { name: 'mirror' }]
    } as unknown as PartnerState],
    [c, { failures: 1, suppliedBy: undefined, sources: [{ name: 'endpoint' }] } as unknown as PartnerState]
  ])
  let partners = [c, b, a]
  const metrics = createMetrics({ prefix: 'x' })
  addPartnerMetrics(metrics, { partners: () => partners, bundleOf: domain => bundles.get(domain), states: () => states, clock })
  const read = async () => (await metrics.expose()).split('\n').filter(line => line.startsWith('x_federation_'))
  await clock.advance(10_000)
  t.strictSame(await read(), [
    'x_federation_partners 3',
    'x_federation_trust_ends_seconds{trust_domain="a.test"} 3590', 'x_federation_trust_ends_seconds{trust_domain="c.test"} 0',
    'x_federation_sequence{trust_domain="a.test"} 7',
    'x_federation_last_success_age_seconds{trust_domain="a.test"} 10',
    'x_federation_failures{trust_domain="a.test"} 2', 'x_federation_failures{trust_domain="c.test"} 1',
    'x_federation_source{trust_domain="a.test"} 1'
  ])
  await clock.advance(3_590_000)
  t.match((await read())[1], / 0$/, 'at the very instant')
  partners = [b]
  states.clear()
  t.strictSame(await read(), ['x_federation_partners 1'], 'what ends leaves no series')
  partners = Array.from({ length: mostShown + 10 }, (_, n) => parseTrustDomain(`p${n}.test`))
  const many = await read()
  t.equal(many[0], `x_federation_partners ${mostShown + 10}`)
  t.equal(many.length, 1 + mostShown, 'there is an end to series')
})
