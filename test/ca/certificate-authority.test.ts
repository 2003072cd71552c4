import t from 'tap'
import type { AuthorityJournal } from '../../src/ca/authority-record.ts'
import { OwnBundle, type BundleJournal } from '../../src/ca/own-bundle.ts'
import { createMemoryKeyManager } from '../../src/keys/memory/memory-key-manager.ts'
import type { Took } from '../../src/runtime/took.ts'
import { withContent } from '../../src/spiffe/bundle-change.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { trustDomainId } from '../../src/spiffe/spiffe-id.ts'
import { validateJwtSvid } from '../../src/jwt/validate-jwt-svid.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { verifyX509Svid } from '../../src/x509/verify-svid.ts'
import { day, domain, memoryJournals, openAuthority, x509Order } from '../fakes/certificate-authority.ts'
import { ManualClock } from '../fakes/clock.ts'
import { idOf } from '../fakes/entries.ts'

await t.test('a new trust domain can sign at once, and publishes before it signs (FED-03)', async t => {
  const journals = memoryJournals()
  const clock = new ManualClock()
  const authority = await openAuthority(journals, createMemoryKeyManager(), clock)
  t.same(journals.events.slice(0, 3), ['bundle 1', 'x509 prepared', 'x509 active'])
  const [ca] = authority.bundle.value.x509Authorities
  const root = parseCertificate(ca?.certificate ?? new Uint8Array())
  t.same(root.uriSans, [trustDomainId(domain)], 'ID-15 ID-16: the authority carries an SVID with the trust domain\'s own ID')
  t.same(root.subjectDer, root.issuerDer, 'ID-17: it is self-signed; X509-24')
  const { chain } = await authority.issueX509Svid(x509Order())
  t.equal(verifyX509Svid(chain, { bundleOf: () => journals.bundle(), at: clock.now() }).id, idOf('/web'))
  const { token } = await authority.issueJwtSvid({ id: idOf('/web'), audience: ['db'], ttlSeconds: 300 })
  t.equal((validateJwtSvid(token, { bundleOf: () => journals.bundle(), audience: ['db'], at: clock.now() })).id, idOf('/web'))
})

await t.test('authorities change before half of their life, and everything issued stays valid meanwhile (TDB-15)', async t => {
  const journals = memoryJournals()
  const clock = new ManualClock()
  const authority = await openAuthority(journals, createMemoryKeyManager(), clock)
  const first = authority.x509Records.active?.authorityId
  const early = await authority.issueX509Svid({ ...x509Order(), ttlSeconds: day / 1000 })
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
  const late = await authority.issueX509Svid(x509Order())
  t.ok(verifyX509Svid(late.chain, { bundleOf: () => journals.bundle(), at }))
})

await t.test('an old authority leaves the bundle once nothing it signed can live (FED-04)', async t => {
  const journals = memoryJournals()
  const clock = new ManualClock()
  const authority = await openAuthority(journals, createMemoryKeyManager(), clock)
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
  const authority = await openAuthority(memoryJournals(), createMemoryKeyManager(), clock)
  const { notAfter } = await authority.issueX509Svid({ ...x509Order(), ttlSeconds: 10 * day })
  t.same(notAfter, authority.x509Records.active?.notAfter)
  const { expiresAt } = await authority.issueJwtSvid({ id: idOf('/web'), audience: ['a'], ttlSeconds: 10 * day })
  t.same(expiresAt, authority.jwtRecords.active?.notAfter)
})

await t.test('a restart goes on with the same authorities; a lost key is replaced', async t => {
  const journals = memoryJournals()
  const clock = new ManualClock()
  const keys = createMemoryKeyManager()
  const before = await openAuthority(journals, keys, clock)
  const id = before.x509Records.active?.authorityId
  const again = await openAuthority(journals, keys, clock)
  t.equal(again.x509Records.active?.authorityId, id)
  t.equal(again.bundle.value.sequenceNumber, before.bundle.value.sequenceNumber, 'nothing was published for it')
  const withoutKeys = await openAuthority(journals, createMemoryKeyManager(), clock)
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
    await openAuthority(fragile, keys, clock).catch(() => {})
    const authority = await openAuthority(journals, keys, clock)
    const { chain } = await authority.issueX509Svid(x509Order())
    t.ok(verifyX509Svid(chain, { bundleOf: () => journals.bundle(), at: clock.now() }), `after ${crashAfter} writes`)
  }
})

await t.test('switched off, JWT-SVIDs are refused as such', async t => {
  const authority = await openAuthority(memoryJournals(), createMemoryKeyManager(), new ManualClock(), { disableJwtSvids: true })
  t.equal(authority.bundle.value.jwtAuthorities.length, 0)
  await t.rejects(authority.issueJwtSvid({ id: idOf('/web'), audience: ['a'], ttlSeconds: 1 }), { code: 'jwt_disabled' })
})

await t.test('an expired authority signs nothing', async t => {
  const clock = new ManualClock()
  const authority = await openAuthority(memoryJournals(), createMemoryKeyManager(), clock)
  await clock.advance(day + 1)
  await t.rejects(authority.issueX509Svid(x509Order()), { code: 'server_initializing' })
  await t.rejects(authority.trySigning(x509Order().id, x509Order().publicKey), { code: 'server_initializing' })
  await authority.rotate()
  t.ok(await authority.issueX509Svid(x509Order()), 'until the next look at the clock')
})

await t.test('what it signs, prepares, activates and prunes is told of, failures too', async t => {
  const told: string[] = []
  const outcome = ({ error }: Took) => error instanceof Error ? error.message : 'ok'
  const clock = new ManualClock()
  const journals = memoryJournals()
  const authority = await openAuthority(journals, createMemoryKeyManager(), clock, {}, {
    signed: (what, count) => { told.push(`signed ${what} ${count}`) },
    keyMade: took => { told.push(`key ${outcome(took)}`) },
    prepared: (kind, took) => { told.push(`prepared ${kind} ${outcome(took)}`) },
    activated: kind => { told.push(`activated ${kind}`) },
    pruned: took => { told.push(`pruned ${outcome(took)}`) }
  })
  const first = ['key ok', 'prepared x509 ok', 'activated x509', 'key ok', 'prepared jwt ok', 'activated jwt']
  t.strictSame(told.splice(0), first)
  await authority.issueX509Svids([x509Order(), x509Order()])
  await authority.issueDownstreamCa({ publicKey: x509Order().publicKey, ttlSeconds: 3600 })
  await authority.issueJwtSvid({ id: idOf('/web'), audience: ['db'], ttlSeconds: 300 })
  t.strictSame(told.splice(0), ['signed x509_svid 2', 'signed x509_ca_svid 1', 'signed jwt_svid 1'])
  await authority.trySigning(x509Order().id, x509Order().publicKey)
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
  const authority = await openAuthority(journals, keys, clock)
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
    const again = await openAuthority(journals, keys, clock)
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
