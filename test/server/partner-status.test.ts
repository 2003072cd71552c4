import t from 'tap'
import type { PartnerState } from '../../src/federation/client/partner-state.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { carryOver, decodeFacts, encodeFacts, type PartnerFacts } from '../../src/server/federation/partner-facts.ts'
import { PartnerReports } from '../../src/server/federation/partner-reports.ts'
import { failuresForLong, overdueMs, partnerStatus } from '../../src/server/federation/partner-status.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { parseFederationRelationship } from '../../src/spiffe/federation-relationship.ts'
import { parseTrustDomain, type TrustDomain } from '../../src/spiffe/trust-domain.ts'
import type { StoredPartnerState } from '../../src/storage/partner-state-store.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { ManualClock } from '../fakes/clock.ts'

const domain = parseTrustDomain('partner.test')
const relationship = parseFederationRelationship(
  { trustDomain: domain, url: 'https://partner.test', httpsWeb: true, httpsSpiffe: undefined }, parseTrustDomain('example.org'))
const { bundle } = await createTestAuthority('partner.test')
const now = new Date()
const before = (ms: number) => new Date(now.getTime() - ms)
const error = { at: before(5), code: 'bundle_endpoint_untrusted', requirement: 'FED-27', message: 'the endpoint shows another' } as const
const facts: PartnerFacts = {
  failures: 0, lastSuccessAt: before(10), suppliedBy: 'endpoint', nextPollAt: before(-10),
  sources: [{ name: 'endpoint', lastSuccessAt: before(10), lastError: undefined }]
}

void t.test('how a partner fares', async t => {
  const jwtOnly: Bundle = { ...bundle, x509Authorities: [], jwtAuthorities: [{ keyId: 'a', publicKey: new Uint8Array(), tainted: false }] }
  const empty: Bundle = { ...bundle, x509Authorities: [], jwtAuthorities: [] }
  const failing = { ...facts, failures: failuresForLong }
  const cases: Array<[health: string, what: string, bundle: Bundle | undefined, facts: PartnerFacts | undefined, at?: Date]> = [
    ['healthy', 'it was fetched', bundle, facts],
    ['healthy', 'some failures need nobody', bundle, { ...facts, failures: failuresForLong - 1 }],
    ['healthy', 'it has JWT keys alone', jwtOnly, facts],
    ['pending', 'nobody has polled yet', undefined, undefined],
    ['pending', 'what was given has not been fetched yet', bundle, undefined],
    ['pending', 'the first poll failed', undefined, { ...facts, failures: 1, lastSuccessAt: undefined }],
    ['failing', 'many failures, and the last good bundle is in force', bundle, failing],
    ['unfollowed', 'a poll is overdue', bundle, { ...facts, nextPollAt: before(overdueMs + 1) }],
    ['healthy', 'a poll is under way', bundle, { ...facts, nextPollAt: before(overdueMs) }],
    ['broken', 'the partner says that nothing is trusted', empty, facts],
    ['broken', 'there never was a bundle, for long', undefined, failing],
    ['broken', 'all authorities have expired', bundle, facts, new Date(now.getTime() + 100 * 365 * 86_400_000)]
  ]
  for (const [health, what, bundle, facts, at = now] of cases) {
    const stored = facts && { trustDomain: domain, replicaId: 'r1', seenAt: at, facts: encodeFacts(facts) }
    t.equal(partnerStatus(relationship, bundle, stored, at).health, health, what)
  }
  const { trustEndsAt } = partnerStatus(relationship, bundle, undefined, now)
  t.ok(trustEndsAt !== undefined && trustEndsAt > now)
  t.equal(partnerStatus(relationship, bundle, undefined, trustEndsAt as Date).health, 'broken', 'at the very instant')
})

void t.test('facts come back from JSON as they were', async t => {
  const all = { ...facts, sources: [...facts.sources, { name: 'mirror', lastSuccessAt: undefined, lastError: error }] }
  t.strictSame(decodeFacts(JSON.parse(JSON.stringify(encodeFacts(all))) as Record<string, unknown>), all)
  t.match(decodeFacts({}), { failures: 0, sources: [], lastSuccessAt: undefined }, 'of another version')
})

void t.test('who takes a partner over goes on from what was known', async t => {
  const fresh: PartnerFacts = {
    failures: 0, lastSuccessAt: undefined, suppliedBy: undefined, nextPollAt: before(-3),
    sources: [{ name: 'endpoint', lastSuccessAt: undefined, lastError: undefined }]
  }
  const known = { ...facts, failures: 3, sources: [{ name: 'endpoint', lastSuccessAt: before(10), lastError: error }] }
  t.strictSame(carryOver(known, fresh), { ...known, nextPollAt: fresh.nextPollAt })
  t.equal(carryOver(known, { ...fresh, failures: 2 }).failures, 5, 'they fail in a row')
  t.strictSame(carryOver(known, facts), facts, 'until it succeeds')
  const elsewhere = { ...fresh, sources: [{ name: 'another', lastSuccessAt: undefined, lastError: undefined }] }
  t.strictSame(carryOver(known, elsewhere), elsewhere, 'another endpoint has no past')
  t.strictSame(carryOver(undefined, fresh), fresh)
})

void t.test('what has changed is written, once a second at the most, by the holder alone', async t => {
  const rows = new Map<TrustDomain, StoredPartnerState>([['gone.test', 'r0']].map(([name, replicaId]) => [
    parseTrustDomain(name as string),
    { trustDomain: parseTrustDomain(name as string), replicaId: replicaId as string, seenAt: now, facts: {} }
  ]))
  let writes = 0
  let refusal: SpiffeError | undefined
  const partnerStates = {
    async put (states: readonly StoredPartnerState[]) {
      if (refusal !== undefined) throw refusal
      writes += states.length
      for (const state of states) rows.set(state.trustDomain, state)
    },
    async keep (domains: readonly TrustDomain[]) { for (const name of rows.keys()) if (!domains.includes(name)) rows.delete(name) },
    list: async () => [...rows.values()]
  }
  const clock = new ManualClock()
  const states = new Map<TrustDomain, PartnerState>()
  const lease: { stores: { partnerStates: typeof partnerStates } | undefined } = { stores: undefined }
  let wanted = [domain]
  const reports = new PartnerReports({
    replicaId: 'r1', states: () => states, partners: () => wanted, lease, clock, log: silentLogger
  })
  const stop = new AbortController()
  const run = reports.run(stop.signal).catch(() => {})
  const show = (failures: number) => states.set(domain, { ...facts, failures } as PartnerState)
  const stored = () => rows.get(domain)?.facts['failures']
  show(1)
  await clock.advance(1_000)
  t.equal(writes, 0, 'another replica does the chores')
  lease.stores = { partnerStates }
  await clock.advance(1_000)
  t.strictSame([writes, stored(), [...rows.keys()]], [1, 1, [domain]], 'what no relationship wants is forgotten')
  for (let failures = 2; failures < 10; failures++) show(failures)
  await clock.advance(999)
  t.equal(writes, 1)
  await clock.advance(1)
  t.strictSame([writes, stored()], [2, 9])
  await clock.advance(10_000)
  t.equal(writes, 2, 'nothing has changed')
  refusal = new SpiffeError('datastore_unavailable', 'away')
  show(0)
  await clock.advance(1_000)
  refusal = undefined
  await clock.advance(1_000)
  t.strictSame([writes, stored()], [3, 0], 'what could not be written is written later')
  const [source] = facts.sources
  const sources = [{ ...source, lastSuccessAt: undefined }]
  states.set(domain, { ...facts, failures: 1, lastSuccessAt: undefined, sources } as never)
  await clock.advance(1_000)
  const { lastSuccessAt } = facts
  t.match(decodeFacts(rows.get(domain)?.facts ?? {}), { failures: 1, lastSuccessAt }, 'of a follower that was replaced')
  wanted = []
  await clock.advance(1_000)
  t.strictSame([...rows.keys()], [], 'it goes with the relationship')
  stop.abort()
  await run
})
