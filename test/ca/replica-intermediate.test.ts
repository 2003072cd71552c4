import t from 'tap'
import { createMemoryKeyManager } from '../../src/keys/memory/memory-key-manager.ts'
import { RemoteKeyManager } from '../../src/keys/remote/remote-key-manager.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { trustDomainId } from '../../src/spiffe/spiffe-id.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { verifyX509Svid } from '../../src/x509/verify-svid.ts'
import { day, domain, memoryJournals, openAuthority, x509Order } from '../fakes/certificate-authority.ts'
import { ManualClock } from '../fakes/clock.ts'
import { idOf } from '../fakes/entries.ts'
import { eventually } from '../fakes/eventually.ts'
import { FakeKeyService } from '../fakes/key-service.ts'
import { MemoryKeyRows } from '../fakes/shared-key-rows.ts'

await t.test('a replica signs with an intermediate of its own below the shared root', async t => {
  const journals = memoryJournals()
  const clock = new ManualClock()
  const keys = createMemoryKeyManager()
  const shared = { intermediate: { usualTtlSeconds: 3600 } }
  const one = await openAuthority(journals, keys, clock, { ...shared, caTtlSeconds: 100 * day / 1000 })
  const two = await openAuthority(journals, keys, clock, { ...shared, caTtlSeconds: 100 * day / 1000 })
  t.equal(journals.bundle().x509Authorities.length, 1, 'one root, however many replicas')
  const svids = [await one.issueX509Svid(x509Order()), await two.issueX509Svid(x509Order())]
  for (const { chain } of svids) {
    t.equal(chain.length, 2)
    t.equal(verifyX509Svid(chain, { bundleOf: () => journals.bundle(), at: clock.now() }).id, idOf('/web'))
    const intermediate = parseCertificate(chain[1] as Uint8Array)
    t.match(intermediate, { isCa: true, pathLength: 0, uriSans: [trustDomainId(domain)] })
    t.ok(intermediate.notAfter.getTime() < clock.now().getTime() + 2 * day, 'short-lived beside its root')
  }
  t.notSame(svids[0]?.chain[1], svids[1]?.chain[1])
  t.equal((await one.issueX509Svid(x509Order())).chain[1], svids[0]?.chain[1], 'one for many SVIDs')
  const long = await one.issueX509Svid({ ...x509Order(), ttlSeconds: 10 * day / 1000 })
  t.equal(long.notAfter.getTime(), clock.now().getTime() + 10 * day, 'an SVID that lives longer gets an intermediate that does')
  const before = (await one.issueX509Svid(x509Order())).chain[1]
  await clock.advance(11 * day)
  t.not((await one.issueX509Svid(x509Order())).chain[1], before, 'renewed before half of its life is over')
  const { authorityId } = await one.slots('x509').prepare(one.writer)
  await one.slots('x509').activate(authorityId, one.writer)
  await two.reload()
  const next = await two.issueX509Svid(x509Order())
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
  const authority = await openAuthority(journals, createMemoryKeyManager(), clock, shared)
  clock.aheadMs = day / 2
  const early = await authority.issueX509Svid(x509Order())
  clock.aheadMs = 0
  const { chain } = await authority.issueX509Svid(x509Order())
  t.equal(verifyX509Svid(chain, { bundleOf: () => journals.bundle(), at: clock.now() }).id, idOf('/web'))
  t.notSame(chain[1], early.chain[1])
  t.same((await authority.issueX509Svid(x509Order())).chain[1], chain[1], 'one for many SVIDs')
})

await t.test('the root\'s key is kept elsewhere', async t => {
  const clock = new ManualClock()
  const service = new FakeKeyService()
  const rows = new MemoryKeyRows()
  const keys = await RemoteKeyManager.open(service, rows, { identifier: 'test', clock, log: silentLogger })
  const journals = memoryJournals()
  const authority = await openAuthority(journals, keys, clock, { intermediate: { usualTtlSeconds: 3600 }, caTtlSeconds: 100 * day / 1000 })
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
  const before = await authority.issueX509Svid(x509Order())
  t.equal(verifyX509Svid(before.chain, { bundleOf: () => journals.bundle(), at: clock.now() }).id, idOf('/web'))
  const asked = service.signed
  for (let n = 0; n < 20; n++) await authority.issueX509Svid(x509Order())
  t.equal(service.signed, asked, 'no X509-SVID costs a signature there')

  for (const state of ['away', 'hangs'] as const) {
    service.state = state
    t.equal(await outcome(authority.issueX509Svid(x509Order())), 'signed', `${state}: X509-SVIDs are signed here`)
    const jwt = { id: idOf('/web'), audience: ['a'], ttlSeconds: 60 }
    t.equal(await outcome(authority.issueJwtSvid(jwt)), 'key_service_unreachable', `${state}: JWT-SVIDs are not`)
  }
  await clock.advance(13 * 3_600_000)
  t.equal(await outcome(authority.issueX509Svid(x509Order())), 'signed', 'beyond half of the intermediate\'s life too, and nobody waits')
  service.state = 'well'
  await clock.advance(60_000)
  await eventually('it is renewed once that works again', async () =>
    !Buffer.from((await authority.issueX509Svid(x509Order())).chain[1] as Uint8Array).equals(before.chain[1] as Uint8Array))
  service.state = 'hangs'
  await clock.advance(26 * 3_600_000)
  t.equal(await outcome(authority.issueX509Svid(x509Order())), 'key_service_unreachable', 'until the intermediate ends')
  service.state = 'well'

  service.keys.clear()
  t.equal(await outcome(authority.issueX509Svid(x509Order())), 'key_service_key_gone')
  await authority.rotate()
  const [, root] = journals.bundle().x509Authorities
  const next = await authority.issueX509Svid(x509Order())
  t.same(parseCertificate(next.chain[1] as Uint8Array).issuerDer, parseCertificate(root?.certificate as Uint8Array).subjectDer,
    'a root whose key was removed is followed by another by itself')
})
