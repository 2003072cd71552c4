import t from 'tap'
import { CertificateAuthority, type CertificateAuthorityOptions } from '../../src/ca/certificate-authority.ts'
import type { AuthorityJournal, AuthorityRecord } from '../../src/ca/authority-record.ts'
import { OwnBundle, type BundleJournal } from '../../src/ca/own-bundle.ts'
import { createMemoryKeyManager } from '../../src/keys/memory/memory-key-manager.ts'
import type { KeyManager } from '../../src/keys/key-manager.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { withContent } from '../../src/spiffe/bundle-change.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { parseTrustDomain, type TrustDomain } from '../../src/spiffe/trust-domain.ts'
import { trustDomainId } from '../../src/spiffe/spiffe-id.ts'
import { validateJwtSvid } from '../../src/jwt/validate-jwt-svid.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { verifyX509Svid } from '../../src/x509/verify-svid.ts'
import { newKey } from '../fakes/agent-client.ts'
import { ManualClock } from '../fakes/clock.ts'
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
    async save (saved) {
      for (const record of saved) {
        events.push(`${record.kind} ${record.state}`)
        records.set(`${record.kind} ${record.authorityId}`, record)
      }
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

function open (journals: Journals, keys: KeyManager, clock: ManualClock, more: Partial<CertificateAuthorityOptions> = {}) {
  return CertificateAuthority.open(
    { ...options, ...more }, { keys, journal: journals.journal, bundles: journals.bundles, clock, log: silentLogger }
  )
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
  await authority.rotateIfDue()
  t.equal(authority.x509Records.prepared, undefined, 'nothing before a third of its life')
  await clock.advance(0.02 * day)
  await authority.rotateIfDue()
  t.ok(authority.x509Records.prepared, 'after a third, the next one is prepared')
  t.equal(authority.bundle.value.x509Authorities.length, 2, 'and published')
  t.equal(authority.x509Records.active?.authorityId, first, 'but does not sign yet')
  await clock.advance(0.12 * day)
  await authority.rotateIfDue()
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
    await authority.rotateIfDue()
  }
  await clock.advance(700_000)
  await authority.rotateIfDue()
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
      journal: { ...journals.journal, save: dying((records: readonly AuthorityRecord[]) => journals.journal.save(records)) },
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
  await authority.rotateIfDue()
  t.ok(await authority.issueX509Svid(order()), 'until the next look at the clock')
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
