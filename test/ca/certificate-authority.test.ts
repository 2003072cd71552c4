import t from 'tap'
import { CertificateAuthority, type CertificateAuthorityOptions } from '../../src/ca/certificate-authority.ts'
import type { CaEvents } from '../../src/ca/ca-events.ts'
import type { AuthorityJournal, AuthorityRecord } from '../../src/ca/authority-record.ts'
import { emptyBundle, OwnBundle, type BundleJournal } from '../../src/ca/own-bundle.ts'
import { createMemoryKeyManager } from '../../src/keys/memory/memory-key-manager.ts'
import type { KeyManager } from '../../src/keys/key-manager.ts'
import { RemoteKeyManager } from '../../src/keys/remote/remote-key-manager.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import type { Took } from '../../src/runtime/took.ts'
import { withContent } from '../../src/spiffe/bundle-change.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { parseTrustDomain, type TrustDomain } from '../../src/spiffe/trust-domain.ts'
import { trustDomainId } from '../../src/spiffe/spiffe-id.ts'
import { validateJwtSvid } from '../../src/jwt/validate-jwt-svid.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { verifyX509Svid } from '../../src/x509/verify-svid.ts'
import { newKey } from '../fakes/agent-client.ts'
import { ManualClock } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'
import { FakeKeyService } from '../fakes/key-service.ts'
import { MemoryKeyRows } from '../fakes/shared-key-rows.ts'
import { idOf } from '../fakes/entries.ts'
import { createPublicKey } from 'node:crypto'

const domain = parseTrustDomain('example.org')
const day = 86_400_000

const options: CertificateAuthorityOptions = {
  trustDomain: domain,
  caTtlSeconds: day / 1000,
  caKeyType: 'ec-p256',
  jwtKeyType: 'ec-p256',
  caSubject: { country: ['US'], organization: ['SPIFFE'], commonName: '' },
  disableJwtSvids: false
}

/** Journals in memory that note the order of writes. */
function memoryJournals () {
  const events: string[] = []
  const records = new Map<string, AuthorityRecord>()
  let bundle: Bundle | undefined
  const journal: AuthorityJournal = {
    list: async kind => [...records.values()].filter(record => record.kind === kind),
    async save (saved, publish) {
      const before = bundle ?? emptyBundle(domain)
      bundle = publish(before)
      if (bundle.sequenceNumber !== before.sequenceNumber) events.push(`bundle ${bundle.sequenceNumber}`)
      for (const record of saved) {
        events.push(`${record.kind} ${record.state}`)
        records.set(`${record.kind} ${record.authorityId}`, record)
      }
      return bundle
    }
  }
  const bundles: BundleJournal = {
    get: async () => bundle,
    async update (_domain: TrustDomain, change) {
      const next = change(bundle)
      if (next.sequenceNumber !== bundle?.sequenceNumber) events.push(`bundle ${next.sequenceNumber}`)
      bundle = next
      return next
    }
  }
  return { events, records, journal, bundles, bundle: () => bundle as Bundle }
}

type Journals = ReturnType<typeof memoryJournals>

async function open (journals: Journals, keys: KeyManager, clock: ManualClock, more: Partial<CertificateAuthorityOptions> = {},
  events?: CaEvents) {
  const { journal, bundles } = journals
  const authority = await CertificateAuthority.open({ ...options, ...more }, { keys, journal, bundles, events, clock, log: silentLogger })
  const writer = { journal, keys }
  await authority.rotateIfDue(writer)
  return Object.assign(authority, { writer, rotate: () => authority.rotateIfDue(writer) })
}

const order = () => ({
  id: idOf('/web'), publicKey: createPublicKey(newKey()).export({ format: 'der', type: 'spki' }), dnsNames: [], ttlSeconds: 3600
})

await t.test('a new trust domain can sign at once, and publishes before it signs (FED-03)', async t => {
  const journals = memoryJournals()
  const clock = new ManualClock()
  const authority = await open(journals, createMemoryKeyManager(), clock)
  t.same(journals.events.slice(0, 3), ['bundle 1', 'x509 prepared', 'x509 active'])
  const [ca] = authority.bundle.value.x509Authorities
  const root = parseCertificate(ca?.certificate ?? new Uint8Array())
  t.same(root.uriSans, [trustDomainId(domain)], 'ID-15 ID-16: the authority carries an SVID with the trust domain\'s own ID')
  t.same(root.subjectDer, root.issuerDer, 'ID-17: it is self-signed; X509-24')
  const { chain } = await authority.issueX509Svid(order())
  t.equal(verifyX509Svid(chain, { bundleOf: () => journals.bundle(), at: clock.now() }).id, idOf('/web'))
  const { token } = await authority.issueJwtSvid({ id: idOf('/web'), audience: ['db'], ttlSeconds: 300 })
  t.equal((validateJwtSvid(token, { bundleOf: () => journals.bundle(), audience: ['db'], at: clock.now() })).id, idOf('/web'))
})

await t.test('authorities change before half of their life, and everything issued stays valid meanwhile (TDB-15)', async t => {
  const journals = memoryJournals()
  const clock = new ManualClock()
  const authority = await open(journals, createMemoryKeyManager(), clock)
  const first = authority.x509Records.active?.authorityId
  const early = await authority.issueX509Svid({ ...order(), ttlSeconds: day / 1000 })
  await clock.advance(0.32 * day)
  await authority.rotate()
  t.equal(authority.x509Records.prepared, undefined, 'nothing before a third of its life')
  await clock.advance(0.02 * day)
  await authority.rotate()
  t.ok(authority.x509Records.prepared, 'after a third, the next one is prepared')
  t.equal(authority.bundle.value.x509Authorities.length, 2, 'and published')
  t.equal(authority.x509Records.active?.authorityId, first, 'but does not sign yet')
  await clock.advance(0.12 * day)
  await authority.rotate()
  t.not(authority.x509Records.active?.authorityId, first, 'before half of its life it takes over')
  t.not(authority.jwtRecords.active?.slot, undefined)
  const at = clock.now()
  t.ok(verifyX509Svid(early.chain, { bundleOf: () => journals.bundle(), at }), 'what the old one signed is still good')
  const late = await authority.issueX509Svid(order())
  t.ok(verifyX509Svid(late.chain, { bundleOf: () => journals.bundle(), at }))
})

await t.test('an old authority leaves the bundle once nothing it signed can live (FED-04)', async t => {
  const journals = memoryJournals()
  const clock = new ManualClock()
  const authority = await open(journals, createMemoryKeyManager(), clock)
  const first = authority.bundle.value.x509Authorities[0]?.certificate
  const holdsFirst = () => authority.bundle.value.x509Authorities.some(
    ({ certificate }) => certificate === first || Buffer.compare(certificate, first as Uint8Array) === 0
  )
  for (let passed = 0; passed < day; passed += day / 20) {
    t.ok(holdsFirst(), `there at ${passed / day} of its life`)
    await clock.advance(day / 20)
    await authority.rotate()
  }
  await clock.advance(700_000)
  await authority.rotate()
  t.notOk(holdsFirst())
  t.ok(authority.bundle.value.x509Authorities.length <= 3, 'the bundle stays small')
})

await t.test('an SVID never outlives its authority; a JWT-SVID never outlives its key', async t => {
  const clock = new ManualClock()
  const authority = await open(memoryJournals(), createMemoryKeyManager(), clock)
  const { notAfter } = await authority.issueX509Svid({ ...order(), ttlSeconds: 10 * day })
  t.same(notAfter, authority.x509Records.active?.notAfter)
  const { expiresAt } = await authority.issueJwtSvid({ id: idOf('/web'), audience: ['a'], ttlSeconds: 10 * day })
  t.same(expiresAt, authority.jwtRecords.active?.notAfter)
})

await t.test('a restart goes on with the same authorities; a lost key is replaced', async t => {
  const journals = memoryJournals()
  const clock = new ManualClock()
  const keys = createMemoryKeyManager()
  const before = await open(journals, keys, clock)
  const id = before.x509Records.active?.authorityId
  const again = await open(journals, keys, clock)
  t.equal(again.x509Records.active?.authorityId, id)
  t.equal(again.bundle.value.sequenceNumber, before.bundle.value.sequenceNumber, 'nothing was published for it')
  const withoutKeys = await open(journals, createMemoryKeyManager(), clock)
  t.not(withoutKeys.x509Records.active?.authorityId, id)
  t.equal(withoutKeys.bundle.value.x509Authorities.length, 2, 'what the lost key signed is still verified')
})

await t.test('a crash between any two writes leaves a server that starts and signs', async t => {
  for (let crashAfter = 0; crashAfter < 8; crashAfter++) {
    const journals = memoryJournals()
    const clock = new ManualClock()
    const keys = createMemoryKeyManager()
    let writes = 0
    const dying = <A extends unknown[], R> (write: (...args: A) => Promise<R>) => async (...args: A): Promise<R> => {
      if (writes++ === crashAfter) throw new Error('crash')
      return await write(...args)
    }
    const fragile = {
      ...journals,
      journal: {
        ...journals.journal,
        save: dying<Parameters<AuthorityJournal['save']>, Bundle>((...given) => journals.journal.save(...given))
      },
      bundles: {
        ...journals.bundles,
        update: dying<Parameters<BundleJournal['update']>, Bundle>((...given) => journals.bundles.update(...given))
      }
    }
    await open(fragile, keys, clock).catch(() => {})
    const authority = await open(journals, keys, clock)
    const { chain } = await authority.issueX509Svid(order())
    t.ok(verifyX509Svid(chain, { bundleOf: () => journals.bundle(), at: clock.now() }), `after ${crashAfter} writes`)
  }
})

await t.test('switched off, JWT-SVIDs are refused as such', async t => {
  const authority = await open(memoryJournals(), createMemoryKeyManager(), new ManualClock(), { disableJwtSvids: true })
  t.equal(authority.bundle.value.jwtAuthorities.length, 0)
  await t.rejects(authority.issueJwtSvid({ id: idOf('/web'), audience: ['a'], ttlSeconds: 1 }), { code: 'jwt_disabled' })
})

await t.test('an expired authority signs nothing', async t => {
  const clock = new ManualClock()
  const authority = await open(memoryJournals(), createMemoryKeyManager(), clock)
  await clock.advance(day + 1)
  await t.rejects(authority.issueX509Svid(order()), { code: 'server_initializing' })
  await t.rejects(authority.trySigning(order().id, order().publicKey), { code: 'server_initializing' })
  await authority.rotate()
  t.ok(await authority.issueX509Svid(order()), 'until the next look at the clock')
})

await t.test('what it signs, prepares, activates and prunes is told of, failures too', async t => {
  const told: string[] = []
  const outcome = ({ error }: Took) => error instanceof Error ? error.message : 'ok'
  const clock = new ManualClock()
  const journals = memoryJournals()
  const authority = await open(journals, createMemoryKeyManager(), clock, {}, {
    signed: (what, count) => { told.push(`signed ${what} ${count}`) },
    keyMade: took => { told.push(`key ${outcome(took)}`) },
    prepared: (kind, took) => { told.push(`prepared ${kind} ${outcome(took)}`) },
    activated: kind => { told.push(`activated ${kind}`) },
    pruned: took => { told.push(`pruned ${outcome(took)}`) }
  })
  const first = ['key ok', 'prepared x509 ok', 'activated x509', 'key ok', 'prepared jwt ok', 'activated jwt']
  t.strictSame(told.splice(0), first)
  await authority.issueX509Svids([order(), order()])
  await authority.issueDownstreamCa({ publicKey: order().publicKey, ttlSeconds: 3600 })
  await authority.issueJwtSvid({ id: idOf('/web'), audience: ['db'], ttlSeconds: 300 })
  t.strictSame(told.splice(0), ['signed x509_svid 2', 'signed x509_ca_svid 1', 'signed jwt_svid 1'])
  await authority.trySigning(order().id, order().publicKey)
  t.strictSame(told, [], 'a trial is not told of')
  const save = journals.journal.save.bind(journals.journal)
  journals.journal.save = async () => { throw new Error('no room') }
  await t.rejects(authority.slots('x509').prepare(authority.writer), { message: 'no room' })
  t.strictSame(told.splice(0), ['key ok', 'prepared x509 no room'])
  journals.journal.save = save
  await clock.advance(day + 700_000)
  await authority.rotate()
  t.strictSame(told.splice(0), [...first, 'pruned ok'])
  await authority.rotate()
  t.strictSame(told, [], 'a look that finds nothing to do')
})

await t.test('answers of the store that arrive out of order do not bring an older bundle back', async t => {
  const journals = memoryJournals()
  const bundle = await OwnBundle.open(domain, journals.bundles)
  const held = Promise.withResolvers<void>()
  const update = journals.bundles.update.bind(journals.bundles)
  journals.bundles.update = async (...given) => {
    journals.bundles.update = update
    const stored = await update(...given)
    await held.promise
    return stored
  }
  const first = bundle.update(current => withContent(current, { refreshHintSeconds: 1 }))
  await bundle.update(current => withContent(current, { refreshHintSeconds: 2 }))
  held.resolve()
  await first
  t.match(bundle.value, { refreshHintSeconds: 2, sequenceNumber: 2n })
})

await t.test('an operator prepares, activates, taints and revokes (spire-surface §1.8)', async t => {
  const journals = memoryJournals()
  const clock = new ManualClock()
  const keys = createMemoryKeyManager()
  const authority = await open(journals, keys, clock)
  for (const kind of ['x509', 'jwt'] as const) {
    const slots = authority.slots(kind)
    const first = slots.records.active?.authorityId ?? ''
    await t.rejects(slots.activate(first, authority.writer), { code: 'authority_unknown' })
    await t.rejects(slots.taint(first, authority.writer), { code: 'authority_in_use', message: 'unable to taint current local authority' })
    const unused = await slots.prepare(authority.writer)
    const { authorityId } = await slots.prepare(authority.writer)
    t.not(authorityId, unused.authorityId)
    t.equal(published(authority.bundle.value, kind), 2, 'one that was prepared in vain leaves the bundle')
    await t.rejects(slots.activate('no such', authority.writer), { code: 'authority_unknown' })
    await t.rejects(slots.activate('', authority.writer), { code: 'authority_unknown' })
    t.equal((await slots.activate(authorityId, authority.writer)).state, 'active')
    t.match(slots.records, { active: { authorityId }, prepared: undefined, old: { authorityId: first } })
    await t.rejects(slots.revoke(first, authority.writer), { code: 'authority_not_tainted' })
    await t.rejects(slots.revoke(authorityId, authority.writer), { code: 'authority_in_use' })
    await slots.taint(first, authority.writer)
    t.ok(tainted(authority.bundle.value, kind), 'those who read the bundle know')
    const again = await open(journals, keys, clock)
    t.equal(again.slots(kind).records.old?.state, 'tainted', 'a restart knows it too')
    await slots.revoke(first, authority.writer)
    t.notOk(tainted(authority.bundle.value, kind))
    t.equal(slots.records.old, undefined)
    const retired = [slots.records.active?.authorityId ?? '']
    for (let n = 0; n < 2; n++) {
      const { authorityId } = await slots.prepare(authority.writer)
      await slots.activate(authorityId, authority.writer)
      retired.push(authorityId)
    }
    await slots.taint(retired[0] ?? '', authority.writer)
    await slots.revoke(retired[0] ?? '', authority.writer)
    t.equal(slots.records.old?.authorityId, retired[1], 'also one that another has followed since')
    t.equal(published(authority.bundle.value, kind), 2)
  }
})

function published (bundle: Bundle, kind: 'x509' | 'jwt'): number {
  return kind === 'x509' ? bundle.x509Authorities.length : bundle.jwtAuthorities.length
}

function tainted (bundle: Bundle, kind: 'x509' | 'jwt'): boolean {
  return (kind === 'x509' ? bundle.x509Authorities : bundle.jwtAuthorities).some(({ tainted }) => tainted)
}

await t.test('a replica signs with an intermediate of its own below the shared root', async t => {
  const journals = memoryJournals()
  const clock = new ManualClock()
  const keys = createMemoryKeyManager()
  const shared = { intermediate: { usualTtlSeconds: 3600 } }
  const one = await open(journals, keys, clock, { ...shared, caTtlSeconds: 100 * day / 1000 })
  const two = await open(journals, keys, clock, { ...shared, caTtlSeconds: 100 * day / 1000 })
  t.equal(journals.bundle().x509Authorities.length, 1, 'one root, however many replicas')
  const svids = [await one.issueX509Svid(order()), await two.issueX509Svid(order())]
  for (const { chain } of svids) {
    t.equal(chain.length, 2)
    t.equal(verifyX509Svid(chain, { bundleOf: () => journals.bundle(), at: clock.now() }).id, idOf('/web'))
    const intermediate = parseCertificate(chain[1] as Uint8Array)
    t.match(intermediate, { isCa: true, pathLength: 0, uriSans: [trustDomainId(domain)] })
    t.ok(intermediate.notAfter.getTime() < clock.now().getTime() + 2 * day, 'short-lived beside its root')
  }
  t.notSame(svids[0]?.chain[1], svids[1]?.chain[1])
  t.equal((await one.issueX509Svid(order())).chain[1], svids[0]?.chain[1], 'one for many SVIDs')
  const long = await one.issueX509Svid({ ...order(), ttlSeconds: 10 * day / 1000 })
  t.equal(long.notAfter.getTime(), clock.now().getTime() + 10 * day, 'an SVID that lives longer gets an intermediate that does')
  const before = (await one.issueX509Svid(order())).chain[1]
  await clock.advance(11 * day)
  t.not((await one.issueX509Svid(order())).chain[1], before, 'renewed before half of its life is over')
  const { authorityId } = await one.slots('x509').prepare(one.writer)
  await one.slots('x509').activate(authorityId, one.writer)
  await two.reload()
  const next = await two.issueX509Svid(order())
  const root = parseCertificate(journals.bundle().x509Authorities[1]?.certificate as Uint8Array)
  t.same(parseCertificate(next.chain[1] as Uint8Array).issuerDer, root.subjectDer, 'another replica\'s change of root is followed')
})

await t.test('a replica whose clock was ahead, and is set back, signs with an intermediate that is valid', async t => {
  class Corrected extends ManualClock {
    aheadMs = 0
    override now (): Date { return new Date(super.now().getTime() + this.aheadMs) }
  }
  const [journals, clock] = [memoryJournals(), new Corrected()]
  const shared = { intermediate: { usualTtlSeconds: 3600 }, caTtlSeconds: 100 * day / 1000 }
  const authority = await open(journals, createMemoryKeyManager(), clock, shared)
  clock.aheadMs = day / 2
  const early = await authority.issueX509Svid(order())
  clock.aheadMs = 0
  const { chain } = await authority.issueX509Svid(order())
  t.equal(verifyX509Svid(chain, { bundleOf: () => journals.bundle(), at: clock.now() }).id, idOf('/web'))
  t.notSame(chain[1], early.chain[1])
  t.same((await authority.issueX509Svid(order())).chain[1], chain[1], 'one for many SVIDs')
})

await t.test('the root\'s key is kept elsewhere', async t => {
  const clock = new ManualClock()
  const service = new FakeKeyService()
  const rows = new MemoryKeyRows()
  const keys = await RemoteKeyManager.open(service, rows, { identifier: 'test', clock, log: silentLogger })
  const journals = memoryJournals()
  const authority = await open(journals, keys, clock, { intermediate: { usualTtlSeconds: 3600 }, caTtlSeconds: 100 * day / 1000 })
  const outcome = async (work: Promise<unknown>) => {
    let done: unknown
    work.then(() => { done = 'signed' }, (error: { code?: string }) => { done = error.code ?? error })
    await eventually('it ends', async () => {
      // Only who waits for the service needs time to pass.
      if (done === undefined && clock.sleeping > 0) await clock.advance(10_000)
      return done !== undefined
    })
    return done
  }
  const before = await authority.issueX509Svid(order())
  t.equal(verifyX509Svid(before.chain, { bundleOf: () => journals.bundle(), at: clock.now() }).id, idOf('/web'))
  const asked = service.signed
  for (let n = 0; n < 20; n++) await authority.issueX509Svid(order())
  t.equal(service.signed, asked, 'no X509-SVID costs a signature there')

  for (const state of ['away', 'hangs'] as const) {
    service.state = state
    t.equal(await outcome(authority.issueX509Svid(order())), 'signed', `${state}: X509-SVIDs are signed here`)
    const jwt = { id: idOf('/web'), audience: ['a'], ttlSeconds: 60 }
    t.equal(await outcome(authority.issueJwtSvid(jwt)), 'key_service_unreachable', `${state}: JWT-SVIDs are not`)
  }
  await clock.advance(13 * 3_600_000)
  t.equal(await outcome(authority.issueX509Svid(order())), 'signed', 'beyond half of the intermediate\'s life too, and nobody waits')
  service.state = 'well'
  await clock.advance(60_000)
  await eventually('it is renewed once that works again', async () =>
    !Buffer.from((await authority.issueX509Svid(order())).chain[1] as Uint8Array).equals(before.chain[1] as Uint8Array))
  service.state = 'hangs'
  await clock.advance(26 * 3_600_000)
  t.equal(await outcome(authority.issueX509Svid(order())), 'key_service_unreachable', 'until the intermediate ends')
  service.state = 'well'

  service.keys.clear()
  t.equal(await outcome(authority.issueX509Svid(order())), 'key_service_key_gone')
  await authority.rotate()
  const [, root] = journals.bundle().x509Authorities
  const next = await authority.issueX509Svid(order())
  t.same(parseCertificate(next.chain[1] as Uint8Array).issuerDer, parseCertificate(root?.certificate as Uint8Array).subjectDer,
    'a root whose key was removed is followed by another by itself')
})
