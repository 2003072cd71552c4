import t from 'tap'
import { CertificateAuthority, type CertificateAuthorityOptions } from '../../src/ca/certificate-authority.ts'
import type { AuthorityJournal, AuthorityRecord } from '../../src/ca/authority-record.ts'
import { emptyBundle } from '../../src/ca/own-bundle.ts'
import type { UpstreamTrust } from '../../src/ca/upstream-authority.ts'
import { createMemoryKeyManager } from '../../src/keys/memory/memory-key-manager.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { verifyX509Svid } from '../../src/x509/verify-svid.ts'
import { createTestCa, type TestCa } from '../fakes/ca-files.ts'
import { caOptions, day, domain, newPublicKey, x509Order } from '../fakes/certificate-authority.ts'
import { ManualClock, until } from '../fakes/clock.ts'
import { idOf } from '../fakes/entries.ts'
import { FakeUpstream } from '../fakes/upstream.ts'

const trusted = (cas: readonly TestCa[], tainted: readonly TestCa[] = []): UpstreamTrust => ({
  x509Authorities: [...cas, ...tainted].map(ca => ({ certificate: ca.certificate.raw, tainted: tainted.includes(ca) })),
  jwtAuthorities: [], complete: true
})

/** A journal and keys in memory, for one CA after the other. */
class Bed {
  readonly clock = new ManualClock()
  readonly keys = createMemoryKeyManager()
  readonly records = new Map<string, AuthorityRecord>()
  stored: Bundle = emptyBundle(domain)
  readonly journal: AuthorityJournal = {
    list: async kind => [...this.records.values()].filter(record => record.kind === kind),
    save: async (saved, publish) => {
      this.stored = publish(this.stored)
      for (const record of saved) this.records.set(`${record.kind} ${record.authorityId}`, record)
      return this.stored
    }
  }
  readonly writer = { journal: this.journal, keys: this.keys }

  async open (more: Partial<CertificateAuthorityOptions>): Promise<CertificateAuthority> {
    const bundles = { get: async () => this.stored, update: async () => { throw new Error('not here') } }
    const { keys, journal, clock } = this
    return await CertificateAuthority.open({ ...caOptions, ...more }, { keys, journal, bundles, clock, log: silentLogger })
  }

  verify (chain: readonly Uint8Array[]) { return verifyX509Svid(chain, { bundleOf: () => this.stored, at: this.clock.now() }) }
  get roots () { return this.stored.x509Authorities.map(({ certificate, tainted }) => [Buffer.from(certificate).toString('hex'), tainted]) }
}

const rootsOf = (...roots: readonly (readonly [TestCa, boolean])[]) =>
  roots.map(([{ certificate }, tainted]) => [Buffer.from(certificate.raw).toString('hex'), tainted])
const laterCa = (bed: Bed, more = {}) => createTestCa({
  notBefore: new Date(bed.clock.now().getTime() - 1000), notAfter: new Date(bed.clock.now().getTime() + 100 * day), ...more
})

await t.test('the bundle holds the upstream\'s root, chains lead there, and it lives through restarts and rotation', async t => {
  const bed = new Bed()
  const upstream = await FakeUpstream.open(() => bed.clock.now())
  const [root] = upstream.roots as [TestCa]
  const middle = await laterCa(bed, { issuer: root })
  upstream.issuers = [middle]
  const ca = await bed.open({ upstream })
  await ca.rotateIfDue(bed.writer)
  t.same(bed.roots, rootsOf([root, false]), 'no root of its own')
  const { active } = ca.x509Records
  t.equal(active?.upstreamAuthorityId, root.subjectKeyId)
  const { chain } = await ca.issueX509Svid(x509Order())
  t.equal(chain.length, 3, 'leaf, the CA, the one between; no root')
  t.equal(bed.verify(chain).id, idOf('/web'))

  const again = await bed.open({ upstream })
  await again.rotateIfDue(bed.writer)
  t.equal(again.x509Records.active?.authorityId, active?.authorityId)
  t.equal(upstream.minted, 1, 'a restart asks for nothing')
  t.ok(bed.verify((await again.issueX509Svid(x509Order())).chain))
  bed.stored = { ...emptyBundle(domain), sequenceNumber: 40n }
  const restored = await bed.open({ upstream })
  await restored.rotateIfDue(bed.writer)
  t.same(bed.roots, rootsOf([root, false]), 'a bundle that lacks the root has it again')

  const early = chain
  await bed.clock.advance(0.34 * day)
  await restored.rotateIfDue(bed.writer)
  await bed.clock.advance(0.12 * day)
  await restored.rotateIfDue(bed.writer)
  t.not(restored.x509Records.active?.authorityId, active?.authorityId, 'the schedule is that of any CA')
  t.equal(upstream.minted, 2)
  t.same(bed.roots, rootsOf([root, false]))
  t.throws(() => bed.verify(early), { code: 'x509_svid_expired' }, 'an hour\'s leaf')
  t.ok(bed.verify((await restored.issueX509Svid({ ...x509Order(), ttlSeconds: 10 * day })).chain), 'a leaf is cut at the end of its CA')
})

await t.test('what an upstream gives is checked, whatever it says of itself', async t => {
  const bed = new Bed()
  const now = () => bed.clock.now()
  const stranger = await laterCa(bed)
  const faults: Record<string, (upstream: FakeUpstream, root: TestCa) => unknown> = {
    'a CA of another key': upstream => { upstream.overrides = { signer: stranger.signer } },
    'a CA of another trust domain': upstream => { upstream.overrides = { trustDomain: parseTrustDomain('other.org') } },
    'roots that did not sign it': upstream => {
      upstream.spoil = minted => ({ ...minted, roots: [{ certificate: stranger.certificate.raw, tainted: false }] })
    },
    'no roots': upstream => { upstream.spoil = minted => ({ ...minted, roots: [] }) },
    'no chain': upstream => { upstream.spoil = minted => ({ ...minted, chain: [] }) },
    'a chain without end': upstream => {
      upstream.spoil = ({ chain, roots }) => ({ chain: Array.from({ length: 9 }, () => chain[0] as Uint8Array), roots })
    },
    'no certificate': upstream => { upstream.spoil = minted => ({ ...minted, chain: [Buffer.from('no')] }) },
    'one half': upstream => { upstream.spoil = ({ chain, roots }) => ({ chain: [(chain[0] as Uint8Array).slice(0, 200)], roots }) },
    'a CA that has ended': upstream => { upstream.overrides = { notBefore: new Date(0), notAfter: new Date(1) } },
    'a CA that begins in a minute': upstream => { upstream.overrides = { notBefore: new Date(now().getTime() + 60_000) } },
    'a CA that ends at once': upstream => { upstream.overrides = { notAfter: new Date(now().getTime() + 30_000) } },
    'an issuer that allows no CA below it': async (upstream, root) => {
      upstream.issuers = [await laterCa(bed, { issuer: root, pathLength: 0 })]
    }
  }
  for (const [title, fault] of Object.entries(faults)) {
    const upstream = await FakeUpstream.open(now)
    await fault(upstream, upstream.roots[0] as TestCa)
    const ca = await new Bed().open({ upstream })
    const fresh = new Bed()
    await t.rejects(ca.rotateIfDue(fresh.writer), { code: 'upstream_invalid' }, title)
    t.equal(fresh.stored.x509Authorities.length, 0, 'nothing is published')
    t.equal(ca.x509Records.active, undefined)
  }
})

await t.test('an upstream that does not date back may take its time, and its clock may be ahead', async t => {
  const bed = new Bed()
  const slow = await FakeUpstream.open(() => bed.clock.now())
  const ca = await bed.open({ upstream: {
    mintX509Ca: async order => { await bed.clock.advance(3_000); return await slow.mintX509Ca(order) },
    [Symbol.asyncDispose]: async () => {}
  } })
  await ca.rotateIfDue(bed.writer)
  t.same(ca.x509Records.active?.notBefore, bed.clock.now(), 'the schedule counts from the answer')

  const ahead = new Bed()
  // As a real timer may be by the clock on the wall.
  const sleep = ahead.clock.sleep.bind(ahead.clock)
  ahead.clock.sleep = (ms, signal) => sleep(ms > 1 ? ms - 1 : ms, signal)
  const upstream = await FakeUpstream.open(() => new Date(ahead.clock.now().getTime() + 5_000))
  const early = await ahead.open({ upstream })
  const rotating = early.rotateIfDue(ahead.writer)
  await until(() => ahead.clock.sleeping === 1)
  await ahead.clock.advance(4_999)
  t.equal(early.x509Records.active, undefined, 'nothing depends on what is not valid yet')
  await ahead.clock.advance(1)
  await rotating
  t.ok(early.x509Records.active)
})

await t.test('an upstream that is gone stops neither what signs nor the JWT keys', async t => {
  const bed = new Bed()
  const upstream = await FakeUpstream.open(() => bed.clock.now())
  const ca = await bed.open({ upstream: { mintX509Ca: order => upstream.mintX509Ca(order), [Symbol.asyncDispose]: async () => {} } })
  await ca.rotateIfDue(bed.writer)
  const before = ca.jwtRecords.active?.authorityId
  upstream.failure = new SpiffeError('upstream_unavailable', 'gone')
  await bed.clock.advance(0.34 * day)
  await t.rejects(ca.rotateIfDue(bed.writer), { code: 'upstream_unavailable' })
  await bed.clock.advance(0.12 * day)
  await t.rejects(ca.rotateIfDue(bed.writer), { code: 'upstream_unavailable' })
  t.not(ca.jwtRecords.active?.authorityId, before, 'the JWT key has changed')
  t.ok(bed.verify((await ca.issueX509Svid(x509Order())).chain), 'the CA goes on until its end')
  upstream.failure = undefined
  await ca.rotateIfDue(bed.writer)
  t.ok(ca.x509Records.active && ca.x509Records.active.notBefore >= bed.clock.now(), 'back, it signs the next one')
})

await t.test('taint and revocation are carried down: another CA first, then the flag, then the end', async t => {
  const bed = new Bed()
  const upstream = await FakeUpstream.open(() => bed.clock.now())
  const [first] = upstream.roots as [TestCa]
  const ca = await bed.open({ upstream })
  await ca.rotateIfDue(bed.writer)
  const second = await laterCa(bed)
  await ca.followUpstream(trusted([first, second]), bed.writer)
  t.same(bed.roots, rootsOf([first, false], [second, false]), 'a new root is trusted before anything is signed below it')

  upstream.failure = new SpiffeError('upstream_unavailable', 'gone')
  await ca.followUpstream(trusted([second], [first]), bed.writer)
  t.same(bed.roots, rootsOf([first, false], [second, false]), 'not tainted while only it signs: what is replaced would be the same')
  upstream.failure = undefined
  upstream.issuers = [second]
  upstream.roots = [second, first]
  await ca.followUpstream(trusted([second], [first]), bed.writer)
  t.equal(ca.x509Records.active?.upstreamAuthorityId, second.subjectKeyId, 'another CA signs')
  t.same(bed.roots, rootsOf([first, true], [second, false]))
  const sequence = bed.stored.sequenceNumber
  await ca.followUpstream(trusted([second], [first]), bed.writer)
  t.equal(bed.stored.sequenceNumber, sequence, 'the same again writes nothing')
  await ca.followUpstream(trusted([first, second]), bed.writer)
  t.same(bed.roots, rootsOf([first, true], [second, false]), 'a taint stays')
  await ca.followUpstream(trusted([second]), bed.writer)
  t.same(bed.roots, rootsOf([second, false]), 'revoked there, gone here')

  const third = await laterCa(bed)
  upstream.issuers = [third]
  upstream.roots = [third]
  await ca.followUpstream(trusted([third]), bed.writer)
  t.same(bed.roots, rootsOf([third, false]), 'a root that is revoked without a taint goes at once, with what it signed')
  t.equal(ca.x509Records.active?.upstreamAuthorityId, third.subjectKeyId)
  t.ok(bed.verify((await ca.issueX509Svid(x509Order())).chain))
  await ca.followUpstream({ ...trusted([]), complete: false }, bed.writer)
  t.same(bed.roots, rootsOf([third, false]), 'who does not say all takes nothing away')
})

await t.test('an operator taints and revokes upstream roots, and they do not come back', async t => {
  const bed = new Bed()
  const upstream = await FakeUpstream.open(() => bed.clock.now())
  const [first] = upstream.roots as [TestCa]
  const ca = await bed.open({ upstream })
  await ca.rotateIfDue(bed.writer)
  const old = ca.x509Records.active?.authorityId ?? ''
  await t.rejects(ca.taintUpstream(first.subjectKeyId, bed.writer), { code: 'authority_in_use' }, 'it signs the active CA')
  const second = await laterCa(bed)
  upstream.issuers = [second]
  upstream.roots = [second, first]
  const { authorityId } = await ca.slots('x509').prepare(bed.writer)
  await t.rejects(ca.taintUpstream(second.subjectKeyId, bed.writer), { code: 'authority_in_use' }, 'it signs the prepared CA')
  await ca.slots('x509').activate(authorityId, bed.writer)
  t.throws(() => ca.requireOwnRoot(old, 'taint'), { code: 'upstream_authority_signs' })
  await t.rejects(ca.taintUpstream('', bed.writer), { code: 'authority_unknown' })
  await t.rejects(ca.taintUpstream('00ff', bed.writer), { code: 'authority_unknown' })
  await t.rejects(ca.revokeUpstream(first.subjectKeyId, bed.writer), { code: 'authority_not_tainted' })
  await ca.taintUpstream(first.subjectKeyId, bed.writer)
  t.same(bed.roots, rootsOf([first, true], [second, false]))
  await ca.revokeUpstream(first.subjectKeyId, bed.writer)
  t.same(bed.roots, rootsOf([second, false]))
  await ca.followUpstream(trusted([first, second]), bed.writer)
  const restarted = await bed.open({ upstream })
  await restarted.followUpstream(trusted([first, second]), bed.writer)
  t.same(bed.roots, rootsOf([second, false]), 'though the upstream still names it')

  const alone = new Bed()
  const own = await alone.open({})
  await own.rotateIfDue(alone.writer)
  await t.rejects(own.taintUpstream('00ff', alone.writer), { code: 'no_upstream_authority' })
})

await t.test('an upstream root that has ended leaves the bundle, and nobody puts it back', async t => {
  const bed = new Bed()
  const upstream = await FakeUpstream.open(() => bed.clock.now())
  const [root] = upstream.roots as [TestCa]
  const short = await laterCa(bed, { notAfter: new Date(bed.clock.now().getTime() + 3_600_000) })
  const key = { keyId: 'short', publicKey: newPublicKey(), expiresAt: new Date(bed.clock.now().getTime() + 3_600_000), tainted: false }
  const ca = await bed.open({ upstream })
  const says = { ...trusted([root, short]), jwtAuthorities: [key] }
  await ca.rotateIfDue(bed.writer)
  await ca.followUpstream(says, bed.writer)
  t.equal(bed.stored.x509Authorities.length, 2)
  await bed.clock.advance(2 * 3_600_000)
  await ca.rotateIfDue(bed.writer)
  const { sequenceNumber } = bed.stored
  t.same(bed.roots, rootsOf([root, false]))
  for (let look = 0; look < 3; look++) {
    await ca.followUpstream(says, bed.writer)
    await ca.rotateIfDue(bed.writer)
  }
  t.equal(bed.stored.sequenceNumber, sequenceNumber, 'though the upstream still names it')
  t.notOk(bed.stored.jwtAuthorities.some(({ keyId }) => keyId === 'short'))
})

await t.test('a trust domain moves below an upstream and back without a gap', async t => {
  const bed = new Bed()
  const own = await bed.open({})
  await own.rotateIfDue(bed.writer)
  const before = (await own.issueX509Svid({ ...x509Order(), ttlSeconds: day / 1000 })).chain
  const upstream = await FakeUpstream.open(() => bed.clock.now())
  const moved = await bed.open({ upstream })
  await moved.rotateIfDue(bed.writer)
  t.equal(bed.stored.x509Authorities.length, 2, 'prepared at once, and known')
  t.equal(moved.x509Records.active?.upstreamAuthorityId, undefined, 'and used once everybody had time to hear of it')
  await bed.clock.advance(0.13 * day)
  await moved.rotateIfDue(bed.writer)
  t.equal(moved.x509Records.active?.upstreamAuthorityId, upstream.roots[0]?.subjectKeyId)
  t.ok(bed.verify(before), 'what the own root signed stays good')
  moved.requireOwnRoot(moved.x509Records.old?.authorityId ?? '', 'revoke')
  const back = await bed.open({})
  await back.rotateIfDue(bed.writer)
  await bed.clock.advance(0.13 * day)
  await back.rotateIfDue(bed.writer)
  t.equal(back.x509Records.active?.upstreamAuthorityId, undefined)
  t.ok(bed.verify((await back.issueX509Svid(x509Order())).chain))
})

await t.test('path lengths: replicas sign with an intermediate where one may stand below, else with the CA itself', async t => {
  for (const [pathLength, chainLength, room] of [[undefined, 3, true], [2, 3, true], [1, 2, false]] as const) {
    const bed = new Bed()
    const upstream = await FakeUpstream.open(() => bed.clock.now())
    const root = await laterCa(bed, pathLength === undefined ? {} : { pathLength })
    upstream.issuers = [root]
    upstream.roots = [root]
    const ca = await bed.open({ upstream, intermediate: { usualTtlSeconds: 3600 } })
    await ca.rotateIfDue(bed.writer)
    const { chain } = await ca.issueX509Svid(x509Order())
    t.equal(chain.length, chainLength, `path length ${pathLength}`)
    t.ok(bed.verify(chain))
    const downstream = ca.issueDownstreamCa({ publicKey: newPublicKey(), ttlSeconds: 600 })
    if (room) t.equal((await downstream).length, 2)
    else await t.rejects(downstream, { code: 'ca_path_exhausted' })
  }
})

await t.test('a downstream CA (spire-surface §7.1)', async t => {
  const bed = new Bed()
  const ca = await bed.open({})
  await ca.rotateIfDue(bed.writer)
  const [der] = await ca.issueDownstreamCa({ publicKey: newPublicKey(), ttlSeconds: 600 })
  const certificate = parseCertificate(der as Uint8Array)
  t.match(Buffer.from(certificate.subjectDer).toString('latin1'), /SPIFFE.*DOWNSTREAM-1/s)
  t.same(certificate.uriSans, ['spiffe://example.org'])
  t.equal(certificate.notAfter.getTime(), bed.clock.now().getTime() + 600_000)
  const [long] = await ca.issueDownstreamCa({ publicKey: newPublicKey(), ttlSeconds: 100 * day })
  t.equal(parseCertificate(long as Uint8Array).notAfter.getTime(), ca.x509Records.active?.notAfter.getTime(), 'cut at this CA\'s end')
})

await t.test('JWT keys go up before they are used, and those of others come down', async t => {
  const bed = new Bed()
  const upstream = await FakeUpstream.open(() => bed.clock.now())
  const other = { keyId: 'other', publicKey: newPublicKey(), expiresAt: undefined, tainted: false }
  upstream.jwtKeys = [other]
  const ca = await bed.open({ upstream })
  await ca.rotateIfDue(bed.writer)
  const own = ca.jwtRecords.active?.authorityId ?? ''
  t.same(upstream.jwtKeys.map(({ keyId }) => keyId), ['other', own], 'published above')
  const keyIds = () => bed.stored.jwtAuthorities.map(({ keyId }) => keyId).toSorted()
  t.same(keyIds(), ['other', own].toSorted())
  const child = { keyId: 'child', publicKey: newPublicKey(), expiresAt: new Date(bed.clock.now().getTime() + day), tainted: false }
  await ca.publishDownstreamJwtKey(child, bed.writer)
  t.same(upstream.jwtKeys.at(-1), child, 'a nested server\'s key goes up as well')
  t.same(keyIds(), ['child', 'other', own].toSorted())
  const [root] = upstream.roots as [TestCa]
  await ca.followUpstream({ ...trusted([root]), jwtAuthorities: [{ ...child, tainted: true }] }, bed.writer)
  t.same(keyIds(), ['child', own].toSorted(), 'what the upstream drops goes, but not what is this server\'s own')
  t.equal(bed.stored.jwtAuthorities.find(({ keyId }) => keyId === 'child')?.tainted, true)

  upstream.failure = new SpiffeError('upstream_unavailable', 'gone')
  await bed.clock.advance(0.34 * day)
  await t.rejects(ca.rotateIfDue(bed.writer), { code: 'upstream_unavailable' })
  t.equal(ca.jwtRecords.prepared, undefined, 'a key that others could not know signs nothing')
})
