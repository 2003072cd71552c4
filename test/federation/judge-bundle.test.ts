import t from 'tap'
import { checkAuthorities } from '../../src/federation/client/foreign-authorities.ts'
import { defaultFetchLimits } from '../../src/federation/client/fetch-limits.ts'
import { judgeUpdate } from '../../src/federation/client/judge-update.ts'
import { readFetched } from '../../src/federation/client/read-fetched.ts'
import { defaultRefreshTimes, nextRefreshMs, type RefreshFacts } from '../../src/federation/client/refresh-time.ts'
import { formatBundleDocument } from '../../src/spiffe/bundle-document.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { oid } from '../../src/x509/oid.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { altNames, caExtensions, forge, nameOf } from '../x509/forge-certificate.ts'

const first = await createTestAuthority('partner.test')
const second = await createTestAuthority('partner.test')
const own = await createTestAuthority('own.test')
const other = await createTestAuthority('other.test')
const numbered = (sequenceNumber: bigint | undefined, { bundle } = first): Bundle => ({ ...bundle, sequenceNumber })
const older = (requirement: string) => ({ code: 'fetched_bundle_older', requirement })

t.test('whether an offered bundle takes the stored one\'s place', async t => {
  t.same(judgeUpdate(undefined, numbered(3n), 'endpoint'), { replaces: true }, 'FED-07 the first is taken')
  t.same(judgeUpdate(undefined, numbered(undefined), 'copy'), { replaces: true }, 'of a copy too')
  t.same(judgeUpdate(numbered(3n), numbered(3n), 'copy'), { replaces: false }, 'the same changes nothing')
  for (const by of ['endpoint', 'copy'] as const) {
    t.same(judgeUpdate(numbered(3n), numbered(4n, second), by), { replaces: true }, `FED-07 TDB-06 a higher number is taken of ${by}`)
    t.throws(() => judgeUpdate(numbered(4n), numbered(3n, second), by), older('AMB-17'), `AMB-17 a lower number is refused of ${by}`)
    const [great, greater] = [numbered(2n ** 63n + 1n, second), numbered(2n ** 63n + 2n)]
    t.throws(() => judgeUpdate(greater, great, by), older('AMB-17'), 'TDB-07 beyond what a double tells')
  }
  const believed = { replaces: true, warning: /TDB-06/ }
  t.match(judgeUpdate(numbered(3n), numbered(3n, second), 'endpoint'), believed, 'the endpoint is believed, with a warning')
  t.throws(() => judgeUpdate(numbered(3n), numbered(3n, second), 'copy'), older('TDB-06'), 'a copy is not')
  const without = numbered(undefined, second)
  t.same(judgeUpdate(numbered(undefined), without, 'endpoint'), { replaces: true }, 'FED-07 without numbers the last one wins')
  t.match(judgeUpdate(numbered(3n), without, 'endpoint'), believed)
  t.throws(() => judgeUpdate(numbered(undefined), without, 'copy'), older('FED-07'), 'a copy may be what was revoked since')
  t.throws(() => judgeUpdate(numbered(3n), without, 'copy'), older('FED-07'))
})

t.test('a bundle that is another domain\'s', async t => {
  const known = { own: own.bundle, partners: [first.bundle, other.bundle] }
  const foreign = { code: 'fetched_bundle_foreign', requirement: 'TDB-04' }
  const partner = parseTrustDomain('partner.test')
  const as = (bundle: Bundle, more: Partial<Bundle> = {}): Bundle => ({ ...bundle, trustDomain: partner, ...more })
  t.doesNotThrow(() => checkAuthorities(second.bundle, known), 'a new authority of its own')
  t.doesNotThrow(() => checkAuthorities(first.bundle, known), 'what is stored of itself')
  t.throws(() => checkAuthorities(as(own.bundle), known), foreign, 'FED-09 TDB-04 our own')
  t.throws(() => checkAuthorities(as(own.bundle, { x509Authorities: [] }), known), foreign, 'TDB-04 our own JWT key alone')
  t.throws(() => checkAuthorities(as(other.bundle), known), foreign, 'TDB-04 another partner\'s')
  const merged = { x509Authorities: [...first.bundle.x509Authorities, ...other.bundle.x509Authorities] }
  t.throws(() => checkAuthorities(as(first.bundle, merged), known), foreign, 'FED-09 both merged')
  const unknown = await createTestAuthority('unknown.test')
  t.throws(() => checkAuthorities(as(unknown.bundle), known), foreign, 'an unknown domain\'s, by the names in its certificates')
  const some = { x509Authorities: [...first.bundle.x509Authorities, ...unknown.bundle.x509Authorities] }
  t.doesNotThrow(() => checkAuthorities(as(first.bundle, some), known), 'AMB-03 one certificate that names another domain is left in')
  t.doesNotThrow(() => checkAuthorities(as(first.bundle, { x509Authorities: [] }), known), 'TDB-13 none at all is nobody else\'s')

  const thief = { ...other.bundle, x509Authorities: [...other.bundle.x509Authorities, ...second.bundle.x509Authorities] }
  t.doesNotThrow(() => checkAuthorities(second.bundle, { own: own.bundle, partners: [thief] }),
    'who publishes another\'s new authority first does not keep it out')
  t.throws(() => checkAuthorities(thief, { own: own.bundle, partners: [second.bundle] }), foreign, 'and is refused itself')
})

t.test('one certificate that cannot be read here keeps nothing out that comes with it', async t => {
  const partner = parseTrustDomain('partner.test')
  // OpenSSL reads it.
  const ca = caExtensions('spiffe://partner.test')
  const odd = forge({ extensions: { ...ca, [oid.subjectAltName]: altNames([nameOf.uri('spiffe://partner.test'), nameOf.ip([1, 2, 3])]) } })
  const ofOurs = forge({ publicKey: parseCertificate(own.bundle.x509Authorities[0]!.certificate).publicKey, extensions: {
    ...ca, [oid.subjectAltName]: altNames([nameOf.ip([1, 2, 3])])
  } })
  const offer = (...more: readonly Uint8Array[]) => {
    const x509Authorities = [...second.bundle.x509Authorities, ...more.map(certificate => ({ certificate, tainted: false }))]
    return readFetched(Buffer.from(formatBundleDocument({ ...second.bundle, x509Authorities })), partner, defaultFetchLimits, () => {})
  }
  t.throws(() => parseCertificate(odd.der), { code: 'certificate_malformed' })
  const offered = offer(odd.der)
  t.equal(offered.x509Authorities.length, 2)
  const known = { own: own.bundle, partners: [first.bundle, other.bundle] }
  t.doesNotThrow(() => checkAuthorities(offered, known), 'what the partner has taken out of its bundle is gone')
  t.doesNotThrow(() => checkAuthorities(other.bundle, { own: own.bundle, partners: [offered] }), 'nor does it stop other partners')
  t.throws(() => checkAuthorities(offer(ofOurs.der), known), { code: 'fetched_bundle_foreign' }, 'our own key is our own in such a one too')
})

t.test('when the endpoint is asked again', async t => {
  const now = new Date()
  const after = (facts: Partial<RefreshFacts>, hint?: number) => nextRefreshMs({
    bundle: hint === undefined ? undefined : { ...first.bundle, refreshHintSeconds: hint },
    failures: 0, retryAfterMs: undefined, now, random: 0, ...facts
  }, defaultRefreshTimes) / 1000
  t.equal(after({}, 300), 300, 'FED-05 as often as the hint says')
  t.equal(after({ random: 1 }, 300), 270, 'or a little sooner, never later')
  t.equal(after({ bundle: first.bundle }), 300, 'FED-05 TDB-09 without a hint every 300 s')
  t.equal(after({}, 0), 300, 'a hint of nothing is no hint')
  t.equal(after({}, 1), 60, 'TDB-09 not in a tight loop, whatever the hint')
  t.equal(after({}, 2_419_200), 3600, 'TS-05 TDB-09 nor once in a month')
  t.equal(after({}, Number.MAX_SAFE_INTEGER), 3600)
  const failing = [1, 2, 3, 4, 50].map(failures => after({ failures }, 300))
  t.same(failing, [60, 120, 240, 300, 300], 'FED-06 after failures ever later, up to the interval')
  t.equal(after({ failures: 1, retryAfterMs: 600_000 }, 300), 600, 'later if the endpoint asks for it')
  t.equal(after({ failures: 1, retryAfterMs: 1e9 }, 300), 3600, 'within reason')
  const short = await createTestAuthority('partner.test', { notAfter: new Date((Math.floor(now.getTime() / 1000) + 600) * 1000) })
  const ending = { ...short.bundle, refreshHintSeconds: 3600 }
  t.ok(after({ bundle: ending }) <= 120, 'sooner when trust is about to end')
  t.equal(after({ bundle: ending, now: new Date(now.getTime() + 700_000) }), 3600, 'but not once it has')
})
