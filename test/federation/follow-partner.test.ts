import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { EndpointSource } from '../../src/federation/client/endpoint-source.ts'
import { FileSource } from '../../src/federation/client/file-source.ts'
import { FollowPartner, type FollowPartnerOptions } from '../../src/federation/client/follow-partner.ts'
import type { OfferedBy } from '../../src/federation/client/judge-update.ts'
import type { PartnerSource } from '../../src/federation/client/partner-source.ts'
import { WebRoots } from '../../src/federation/client/web-roots.ts'
import { contextOptions } from '../../src/rpc/tls-identity.ts'
import { formatBundleDocument } from '../../src/spiffe/bundle-document.ts'
import { parseBundleEndpoint } from '../../src/spiffe/bundle-endpoint.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { codeOf, SpiffeError } from '../../src/spiffe/errors.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { ManualClock } from '../fakes/clock.ts'
import { FakeSink } from './fake-sink.ts'
import { document, startFakePartner } from './fake-partner.ts'

const never = new AbortController().signal
const first = await createTestAuthority('partner.test')
const second = await createTestAuthority('partner.test')
const own = await createTestAuthority('own.test')
const { trustDomain } = first
const numbered = (sequenceNumber: bigint, { bundle } = first): Bundle => ({ ...bundle, sequenceNumber, refreshHintSeconds: 300 })
const unreachable = new SpiffeError('bundle_endpoint_unreachable', 'nobody is there')

/** Gives what a test puts there. */
class FakeSource implements PartnerSource {
  readonly name: string
  readonly offeredBy: OfferedBy
  offers: Bundle | Error
  asked = 0

  constructor (name: string, offeredBy: OfferedBy, offers: Bundle | Error) {
    this.name = name
    this.offeredBy = offeredBy
    this.offers = offers
  }

  async fetch () {
    this.asked++
    if (this.offers instanceof Error) throw this.offers
    return { bundle: this.offers, notes: [] }
  }
}

function follow (sources: FollowPartnerOptions['sources'], sink: FakeSink, more: Partial<FollowPartnerOptions> = {}) {
  const clock = new ManualClock(new Date())
  const { log, lines } = capturedLog()
  const partner = new FollowPartner({
    trustDomain, sources, sink, clock, random: () => 0, log,
    knownBundles: () => ({ own: own.bundle, partners: sink.bundles.values() }),
    ...more
  })
  const stop = new AbortController()
  const running = partner.run(stop.signal).catch((error: unknown) => error)
  return { clock, partner, lines, running, [Symbol.asyncDispose]: async () => { stop.abort(); await running } }
}

t.test('a partner is followed by its hint', async t => {
  const endpoint = new FakeSource('endpoint', 'endpoint', numbered(1n))
  const sink = new FakeSink()
  await using followed = follow([endpoint], sink)
  const { clock, partner, lines } = followed
  await clock.advance(0)
  t.same(sink.bundles.get(trustDomain), numbered(1n), 'FED-07 each retrieved bundle is stored')
  t.match(partner.state.value, {
    failures: 0, suppliedBy: 'endpoint', sequenceNumber: 1n, x509Authorities: 1, jwtAuthorities: 1, trustEndsAt: first.certificate.notAfter,
    lastSuccessAt: clock.now(), nextPollAt: new Date(clock.now().getTime() + 300_000)
  })
  await clock.advance(299_999)
  t.equal(endpoint.asked, 1, 'FED-05 not before the hint says')
  endpoint.offers = numbered(2n, second)
  await clock.advance(1)
  t.equal(endpoint.asked, 2)
  t.same(sink.bundles.get(trustDomain), numbered(2n, second), 'FED-31 the new one replaces the old one, removed keys included')
  await clock.advance(300_000)
  t.equal(sink.written.length, 2, 'the same is not written again')
  t.equal(lines.filter(({ msg }) => /bundle fetched/.test(String(msg))).length, 3, 'FED-33 each fetch is logged')
})

t.test('each poll is told of with its outcome, and that it brought another bundle', async t => {
  const told: string[] = []
  const endpoint = new FakeSource('endpoint', 'endpoint', numbered(1n))
  await using followed = follow([endpoint], new FakeSink(), {
    events: {
      polled: (domain, { error }) => { told.push(`polled ${domain} ${codeOf(error) ?? 'ok'}`) },
      updated: domain => { told.push(`updated ${domain}`) }
    }
  })
  await followed.clock.advance(0)
  await followed.clock.advance(300_000)
  endpoint.offers = unreachable
  await followed.clock.advance(300_000)
  t.strictSame(told, [
    `updated ${trustDomain}`, `polled ${trustDomain} ok`, `polled ${trustDomain} ok`, `polled ${trustDomain} bundle_endpoint_unreachable`
  ])
})

t.test('TDB-13 an empty bundle is taken: nothing of that domain is trusted any more', async t => {
  const empty = { ...numbered(2n), x509Authorities: [], jwtAuthorities: [] }
  const sink = new FakeSink(numbered(1n))
  await using followed = follow([new FakeSource('endpoint', 'endpoint', empty)], sink)
  await followed.clock.advance(5_000)
  t.same(sink.bundles.get(trustDomain), empty)
  t.match(followed.partner.state.value, { x509Authorities: 0, trustEndsAt: undefined })
})

t.test('what is refused leaves the last good bundle in force', async t => {
  const cases = {
    fetched_bundle_older: numbered(4n, second),
    fetched_bundle_foreign: { ...numbered(6n, own), trustDomain },
    fetched_bundle_malformed: new SpiffeError('fetched_bundle_malformed', 'no bundle'),
    bundle_endpoint_unreachable: unreachable
  } as const
  for (const [code, offers] of Object.entries(cases)) {
    const sink = new FakeSink(numbered(5n))
    const endpoint = new FakeSource('endpoint', 'endpoint', offers)
    await using followed = follow([endpoint], sink)
    const { clock, partner, lines } = followed
    await clock.advance(0)
    t.same(sink.bundles.get(trustDomain), numbered(5n), `${code === 'fetched_bundle_older' ? 'AMB-17 ' : ''}${code}`)
    t.match(partner.state.value, { failures: 1, lastSuccessAt: undefined, sequenceNumber: 5n, trustEndsAt: first.certificate.notAfter })
    t.match(partner.state.value.sources, [{ name: 'endpoint', lastError: { code, at: clock.now() } }])
    t.match(lines.filter(({ level }) => level === 'warn'), [{ code, trustDomain, next: /./ }], 'with a warning that says what to do')
    for (const waitMs of [60_000, 120_000, 240_000, 300_000, 300_000]) {
      const { asked } = endpoint
      await clock.advance(waitMs - 1)
      t.equal(endpoint.asked, asked, 'FED-06 it is not asked in a tight loop')
      await clock.advance(1)
      t.equal(endpoint.asked, asked + 1)
    }
    endpoint.offers = numbered(7n, second)
    await clock.advance(300_000)
    t.match(partner.state.value, { failures: 0, sequenceNumber: 7n, sources: [{ lastError: undefined }] }, 'and comes back by itself')
    t.same(sink.bundles.get(trustDomain), numbered(7n, second))
  }
})

t.test('copies are asked while the endpoint fails', async t => {
  const endpoint = new FakeSource('endpoint', 'endpoint', unreachable)
  const mirror = new FakeSource('mirror', 'copy', new SpiffeError('bundle_endpoint_slow', 'too slow'))
  const path = join(t.testdir(), 'bundle.json')
  await writeFile(path, formatBundleDocument(numbered(6n, second)))
  const sink = new FakeSink(numbered(5n))
  await using followed = follow([endpoint, mirror, new FileSource(path, trustDomain)], sink)
  const { clock, partner } = followed
  await clock.advance(0)
  while (partner.state.value.suppliedBy === undefined) await clock.advance(0)
  t.same(sink.bundles.get(trustDomain), numbered(6n, second))
  t.match(partner.state.value, { failures: 1, suppliedBy: path, sources: [
    { lastError: { code: 'bundle_endpoint_unreachable' } }, { lastError: { code: 'bundle_endpoint_slow' } },
    { lastError: undefined, lastSuccessAt: Date }
  ] })
  mirror.offers = numbered(5n)
  await partner.refresh(never)
  t.equal(partner.state.value.suppliedBy, path, 'AMB-17 a copy that is older is passed over')
  endpoint.offers = numbered(7n)
  const { asked } = mirror
  await partner.refresh(never)
  t.match(partner.state.value, { failures: 0, suppliedBy: 'endpoint', sequenceNumber: 7n })
  t.equal(mirror.asked, asked, 'and nobody else once it answers')
  await writeFile(path, ' '.repeat(1_048_577))
  endpoint.offers = unreachable
  await t.rejects(partner.refresh(never), { code: 'bundle_endpoint_unreachable' }, 'the endpoint\'s fault is told')
  t.equal(partner.state.value.sources[2]?.lastError?.code, 'fetched_bundle_too_large')
  await t.rejects(new FileSource(join(path, 'nowhere'), trustDomain).fetch(never), { code: 'file_unusable' })
  await t.rejects(new FileSource(t.testdirName, trustDomain).fetch(never), { code: 'file_unusable' })
})

t.test('refresh polls at once and puts the next poll off', async t => {
  const endpoint = new FakeSource('endpoint', 'endpoint', numbered(1n))
  await using followed = follow([endpoint], new FakeSink())
  const { clock, partner } = followed
  await clock.advance(200_000)
  endpoint.offers = numbered(2n)
  t.same(await partner.refresh(never), numbered(2n))
  await clock.advance(299_999)
  t.equal(endpoint.asked, 2)
  await clock.advance(1)
  t.equal(endpoint.asked, 3)
  // `AbortSignal.timeout` would not keep the process: the first state is enough.
  for await (const { sequenceNumber } of partner.state.watch(never)) {
    t.equal(sequenceNumber, 2n, 'its state can be watched')
    break
  }
})

t.test('what cannot be stored is a fault of ours: no other source is asked', async t => {
  const sink = new FakeSink()
  sink.failure = new SpiffeError('datastore_unavailable', 'gone')
  const mirror = new FakeSource('mirror', 'copy', numbered(1n))
  await using followed = follow([new FakeSource('endpoint', 'endpoint', numbered(1n)), mirror], sink)
  await t.rejects(followed.partner.refresh(never), { code: 'datastore_unavailable' })
  t.equal(mirror.asked, 0)
  sink.failure = undefined
  await followed.partner.refresh(never)
  t.equal(followed.partner.state.value.failures, 0)
})

t.test('a bug is told as one, and does not end the following', async t => {
  const endpoint = new FakeSource('endpoint', 'endpoint', new TypeError('nothing is a function'))
  await using followed = follow([endpoint], new FakeSink(numbered(1n)))
  await followed.clock.advance(0)
  t.match(followed.partner.state.value.sources, [{ lastError: { code: undefined, message: 'internal error' } }])
  t.equal(followed.lines.filter(({ level }) => level === 'error').length, 1)
  endpoint.offers = numbered(2n)
  await followed.clock.advance(60_000)
  t.equal(followed.partner.state.value.sequenceNumber, 2n)
})

t.test('FED-31 whoever ends a relationship hears no more of it', async t => {
  const sink = new FakeSink()
  const answer = Promise.withResolvers<{ bundle: Bundle, notes: [] }>()
  const endpoint: PartnerSource = { name: 'endpoint', offeredBy: 'endpoint', fetch: () => answer.promise }
  const followed = follow([endpoint], sink)
  await followed.clock.advance(0)
  const ended = followed[Symbol.asyncDispose]()
  answer.resolve({ bundle: numbered(1n), notes: [] })
  await ended
  t.same(sink.written, [])
})

t.test('FED-28 a domain that serves its own bundle may exchange all of its roots', async t => {
  const sink = new FakeSink(first.bundle)
  const shows = (bundle: Bundle) => document(formatBundleDocument(bundle))
  await using partner = await startFakePartner(contextOptions(await first.issue('/endpoint')), shows(numbered(1n, second)))
  const endpoint = (origin: string) => parseBundleEndpoint({
    trustDomain, url: origin, profile: 'https_spiffe', endpointId: 'spiffe://partner.test/endpoint'
  })
  const clock = new ManualClock(new Date())
  const deps = { webRoots: new WebRoots({ roots: [] }), bundleOf: (domain: typeof trustDomain) => sink.bundles.get(domain), clock }
  await using followed = follow([new EndpointSource(endpoint(partner.origin), deps)], sink)
  await followed.partner.refresh(never)
  t.same(sink.bundles.get(trustDomain), numbered(1n, second), 'FED-25 the bootstrap bundle vouches for the first connection')
  await t.rejects(followed.partner.refresh(never), { code: 'bundle_endpoint_untrusted' }, 'FED-28 and for no later one')
  await using rotated = await startFakePartner(contextOptions(await second.issue('/endpoint')), shows(numbered(2n, second)))
  await using again = follow([new EndpointSource(endpoint(rotated.origin), deps)], sink)
  await again.partner.refresh(never)
  t.equal(sink.bundles.get(trustDomain)?.sequenceNumber, 2n)
})

t.test('FED-08 the next refresh replaces what an operator put there, though nothing was sent again', async t => {
  const sink = new FakeSink(first.bundle)
  const body = formatBundleDocument(numbered(3n))
  await using partner = await startFakePartner(contextOptions(await first.issue('/endpoint')), (request, response) => {
    if (request.headers['if-none-match'] === '"3"') response.writeHead(304).end()
    else document(body, { etag: '"3"' })(request, response)
  })
  const endpoint = parseBundleEndpoint({ trustDomain, url: partner.origin, profile: 'https_spiffe', endpointId: 'spiffe://partner.test/endpoint' })
  const deps = { webRoots: new WebRoots({ roots: [] }), bundleOf: () => sink.bundles.get(trustDomain), clock: new ManualClock(new Date()) }
  await using followed = follow([new EndpointSource(endpoint, deps)], sink)
  await followed.partner.refresh(never)
  const x509Authorities = [...first.bundle.x509Authorities, ...second.bundle.x509Authorities]
  sink.bundles.set(trustDomain, { ...first.bundle, x509Authorities, sequenceNumber: 1n })
  await followed.partner.refresh(never)
  t.same(sink.bundles.get(trustDomain), numbered(3n))
  t.same(partner.asked.map(({ condition }) => condition), [undefined, '"3"'])
})
