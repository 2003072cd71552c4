import fc from 'fast-check'
import t from 'tap'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { encodeBitString, encodeSequence } from '../../src/x509/der-writer.ts'
import { emptyName } from '../../src/x509/name.ts'
import { oid } from '../../src/x509/oid.ts'
import { verifyX509Svid } from '../../src/x509/verify-svid.ts'
import { createTestAuthority, makeTestKey } from '../fakes/authority.ts'
import {
  altNames, authorityKeyId, basicConstraints, caExtensions, extendedKeyUsage, forge, keyIdOf, keyUsage, leafExtensions, nameConstraints,
  nameOf, noon, subjectKeyId, unknownExtension, type Forged, type ForgeOptions
} from './forge-certificate.ts'
import { bundleOf, caWith, leafOf, leafWith, root, untrusted, uris, verify } from '../fakes/chains.ts'

void t.test('a leaf (X509-SVID §5.2)', async t => {
  const refused: [requirement: string, rule: string, change: Partial<ForgeOptions>][] = [
    ['X509-01', 'no SAN', leafWith({ [oid.subjectAltName]: undefined })],
    ['X509-01', 'a DNS name alone', leafWith({ [oid.subjectAltName]: altNames([nameOf.dns('web.example.org')]) })],
    ['X509-02', 'two SPIFFE IDs', leafWith({ [oid.subjectAltName]: uris('spiffe://example.org/a', 'spiffe://example.org/b') })],
    ['X509-02', 'a second URI of another scheme', leafWith({ [oid.subjectAltName]: uris('spiffe://example.org/a', 'https://example.org') })],
    ['X509-02', 'the same ID twice', leafWith({ [oid.subjectAltName]: uris('spiffe://example.org/a', 'spiffe://example.org/a') })],
    ['X509-04', 'an ID without a path', leafWith({ [oid.subjectAltName]: uris('spiffe://example.org') })],
    ['X509-20', 'another scheme', leafWith({ [oid.subjectAltName]: uris('https://example.org/a') })],
    ['ID-08', 'a path with an empty segment', leafWith({ [oid.subjectAltName]: uris('spiffe://example.org//a') })],
    ['ID-10', 'AMB-26 an ID of more than 2048 bytes', leafWith({ [oid.subjectAltName]: uris(`spiffe://example.org/${'a'.repeat(2100)}`) })],
    ['X509-06', 'a signing certificate', { extensions: { ...caExtensions('spiffe://example.org/a') } }],
    ['X509-06', 'X509-11 X509-20 a leaf with cA true', leafWith({ [oid.basicConstraints]: basicConstraints(true) })],
    ['X509-13', 'no key usage', leafWith({ [oid.keyUsage]: undefined })],
    ['X509-13', 'a key usage that is not critical', leafWith({ [oid.keyUsage]: keyUsage(['digitalSignature'], false) })],
    ['X509-15', 'no digitalSignature', leafWith({ [oid.keyUsage]: keyUsage(['keyEncipherment', 'keyAgreement']) })],
    ['X509-16', 'X509-20 keyCertSign', leafWith({ [oid.keyUsage]: keyUsage(['digitalSignature', 'keyCertSign']) })],
    ['X509-16', 'X509-20 cRLSign', leafWith({ [oid.keyUsage]: keyUsage(['digitalSignature', 'cRLSign']) })],
    ['X509-18', 'serverAuth alone', leafWith({ [oid.extendedKeyUsage]: extendedKeyUsage([oid.serverAuth]) })],
    ['X509-18', 'clientAuth alone', leafWith({ [oid.extendedKeyUsage]: extendedKeyUsage([oid.clientAuth]) })],
    ['X509-05', 'an empty subject, and a SAN that is not critical', { ...leafWith({}), subject: emptyName }],
    ['X509-12', 'name constraints on a leaf', leafWith({ [oid.nameConstraints]: nameConstraints([nameOf.uri('example.org')]) })],
    ['X509-19', 'an unknown critical extension', leafWith({ unknown: unknownExtension(true) })]
  ]
  for (const [requirement, rule, change] of refused) {
    const leaf = forge({ issuer: root, ...change })
    t.throws(() => verify([leaf]), { code: 'x509_svid_invalid', requirement }, `${requirement} ${rule} is refused`)
  }

  const accepted: [rule: string, change: Partial<ForgeOptions>][] = [
    ['X509-20 a leaf that is all it must be', leafWith({})],
    ['X509-03 DNS names, addresses and others beside the URI', leafWith({
      [oid.subjectAltName]: altNames([
        nameOf.dns('web.example.org'), nameOf.dns('*.example.org'), nameOf.ip([10, 0, 0, 1]), nameOf.email('a@example.org'),
        nameOf.uri('spiffe://example.org/web'), nameOf.registeredId('1.2.3'), nameOf.other('x')
      ])
    })],
    ['X509-05 an empty subject with a critical SAN', {
      ...leafWith({ [oid.subjectAltName]: altNames([nameOf.uri('spiffe://example.org/web')], true) }), subject: emptyName
    }],
    ['AMB-21 no basicConstraints means that it is no CA', leafWith({ [oid.basicConstraints]: undefined })],
    ['X509-15 keyEncipherment and keyAgreement may be set', leafWith({
      [oid.keyUsage]: keyUsage(['digitalSignature', 'keyEncipherment', 'keyAgreement'])
    })],
    ['X509-18 AMB-23 extendedKeyUsage may be missing', leafWith({ [oid.extendedKeyUsage]: undefined })],
    ['X509-18 extendedKeyUsage may have further purposes', leafWith({
      [oid.extendedKeyUsage]: extendedKeyUsage([oid.clientAuth, '1.3.6.1.5.5.7.3.4', oid.serverAuth])
    })],
    ['X509-19 an unknown extension that is not critical', leafWith({ unknown: unknownExtension(false) })]
  ]
  for (const [rule, change] of accepted) {
    t.equal(verify([forge({ issuer: root, ...change })]).id, 'spiffe://example.org/web', rule)
  }
  const longest = `spiffe://example.org/${'a'.repeat(2048 - 21)}`
  t.equal(verify([forge({ issuer: root, extensions: leafExtensions(longest) })]).id, longest, 'ID-10 an ID of 2048 bytes is accepted')

  const tricky = 'spiffe://example.org/web, URI:spiffe://example.org/admin'
  const ambiguous = forge({ issuer: root, ...leafWith({ [oid.subjectAltName]: altNames([nameOf.dns(`x, URI:${tricky}`)]) }) })
  t.throws(() => verify([ambiguous]), { code: 'x509_svid_invalid', requirement: 'X509-01' }, 'TS-07 a DNS name like a URI is none')
})

void t.test('ID-20 X509-21 TDB-03 the bundle of the leaf\'s own trust domain, and no other', async t => {
  const subject = { country: ['US'], organization: ['SPIFFE'], serialNumber: '1' }
  const own = await createTestAuthority('a.test', { subject })
  const foreign = await createTestAuthority('b.test', { subject })
  t.strictSame(own.certificate.subjectDer, foreign.certificate.subjectDer, 'both CAs have the same subject')
  const bundles = new Map([own, foreign].map(({ bundle }) => [bundle.trustDomain, bundle]))
  const both = { bundleOf: (name: Bundle['trustDomain']) => bundles.get(name), at: new Date() }

  t.equal(verifyX509Svid((await own.issue('/web')).chain, both).id, 'spiffe://a.test/web')
  t.equal(verifyX509Svid((await foreign.issue('/web')).chain, both).id, 'spiffe://b.test/web')
  for (const [signing, claimed] of [[own, foreign], [foreign, own]] as const) {
    const impostor = await impersonate(signing, `spiffe://${claimed.trustDomain}/web`)
    const rule = `${signing.trustDomain} does not sign for ${claimed.trustDomain}`
    t.throws(() => verifyX509Svid([impostor], both), untrusted('X509-19'), rule)
    t.throws(() => verifyX509Svid([impostor, signing.certificate.raw], both), untrusted('X509-19'), `${rule}, nor with its CA in the chain`)
    const honest = { ...both, bundleOf: () => ({ ...signing.bundle, trustDomain: claimed.trustDomain }) }
    t.ok(verifyX509Svid([impostor], honest), 'and only because the authority is not in that bundle')
  }
  const { chain } = await own.issue('/web')
  t.throws(() => verifyX509Svid(chain, { ...both, bundleOf: () => undefined }), untrusted('X509-21'), 'X509-21 no bundle')
  t.throws(() => verifyX509Svid(chain, { ...both, bundleOf: () => foreign.bundle }), untrusted('TDB-03'), 'TDB-03 another domain\'s bundle')
  const wrong = { ...foreign.bundle, trustDomain: own.trustDomain }
  t.throws(() => verifyX509Svid(chain, { ...both, bundleOf: () => wrong }), untrusted('X509-19'), 'another CA of the same subject')
  const none = { ...own.bundle, x509Authorities: [] }
  t.throws(() => verifyX509Svid(chain, { ...both, bundleOf: () => none }), untrusted('X509-26'), 'X509-26 TDB-13 no authority')
})

void t.test('several authorities with the same subject', async t => {
  const roots = Array.from({ length: 5 }, () => forge({ subject: 'same', extensions: caExtensions() }))
  const bundle: Bundle = { ...bundleOf(root), x509Authorities: roots.map(({ der }) => ({ certificate: der, tainted: false })) }
  for (const [index, issuer] of roots.entries()) {
    t.ok(verifyX509Svid([leafOf(issuer).der], { bundleOf: () => bundle, at: noon }), `root ${index} is found without key identifiers`)
  }
  const [first, second] = roots.map(({ key }) => forge({ subject: 'same', key, ...caWith({ ski: subjectKeyId(keyIdOf(key)) }) }))
  const crossed = forge({
    issuer: first!, extensions: { ...leafExtensions('spiffe://example.org/web'), aki: authorityKeyId(keyIdOf(second!.key)) }
  })
  const pair = { ...bundle, x509Authorities: [first!, second!].map(({ der }) => ({ certificate: der, tainted: false })) }
  t.ok(verifyX509Svid([crossed.der], { bundleOf: () => pair, at: noon }), 'a key identifier is a hint and no condition')
})

void t.test('work is bounded', async t => {
  // Fifteen CA certificates of one subject, all issued by the first one's key.
  const looping = Array.from({ length: 15 }, () => forge({ subject: 'loop', extensions: caExtensions() }))
  const [first] = looping as [Forged]
  const knot = looping.map(({ key }) => forge({ issuer: first, subject: 'loop', key, extensions: caExtensions() }))
  t.throws(() => verify([leafOf(first), ...knot]), { code: 'x509_chain_untrusted' }, 'a knot of intermediates')

  const keys = Array.from({ length: 12 }, () => makeTestKey())
  const crowd: Bundle = {
    ...bundleOf(root),
    x509Authorities: Array.from({ length: 150 }, (_, index) => {
      const { der } = forge({ subject: 'same', key: keys[index % 12]!, serial: Buffer.of(1, index), extensions: caExtensions() })
      return { certificate: der, tainted: false }
    })
  }
  const foreign = forge({ subject: 'same', extensions: caExtensions() })
  const limit = { code: 'x509_chain_untrusted', message: 'more than 100 signatures would have to be checked' }
  t.throws(() => verifyX509Svid([leafOf(foreign).der], { bundleOf: () => crowd, at: noon }), limit, '150 authorities of one subject')
})

void t.test('nothing is accepted of which a byte changed', async t => {
  const authority = await createTestAuthority('example.org')
  const middle = await createTestAuthority('example.org', { issuer: authority, subject: { commonName: 'middle' } })
  const { chain } = await middle.issue('/web', { dnsNames: ['web.example.org'] })
  const settings = { bundleOf: authority.bundleOf, at: new Date() }
  t.ok(verifyX509Svid(chain, settings), 'as issued')
  for (const [position, der] of chain.entries()) {
    const accepted: number[] = []
    for (let index = 0; index < der.length; index++) {
      const changed = Buffer.from(der)
      changed[index]! ^= 1 << (index % 8)
      const outcome = attempt(() => verifyX509Svid(chain.map((other, place) => place === position ? changed : other), settings))
      if (outcome !== 'refused') accepted.push(index)
    }
    t.strictSame(accepted, [], `each of the ${der.length} bytes of certificate ${position + 1} counts`)
  }
  fc.assert(fc.property(fc.nat(), fc.nat(), fc.uint8Array({ maxLength: 8 }), (start, length, insert) => {
    const der = Buffer.from(chain[0]!)
    const at = start % der.length
    const changed = Buffer.concat([der.subarray(0, at), insert, der.subarray(at + length % 8)])
    if (changed.equals(der)) return
    if (attempt(() => verifyX509Svid([changed, chain[1]!], settings)) !== 'refused') throw new Error(`accepted: ${changed.toString('hex')}`)
  }), { numRuns: 2000 })
  t.pass('insertions and deletions are refused')
})

/** Signs with the authority's own key what its leaf issuer would refuse. */
async function impersonate (authority: Awaited<ReturnType<typeof createTestAuthority>>, id: string): Promise<Uint8Array> {
  const key = makeTestKey()
  const draft = forge({
    issuer: { der: authority.certificate.raw, key, subjectDer: authority.certificate.subjectDer },
    notBefore: new Date(Date.now() - 60_000),
    notAfter: new Date(Date.now() + 60_000),
    extensions: leafExtensions(id)
  })
  const { tbs, signatureAlgorithm } = parseCertificate(draft.der)
  return encodeSequence(tbs, signatureAlgorithm, encodeBitString(await authority.signer.sign(tbs, 'der')))
}

function attempt (verify: () => unknown): 'refused' | 'accepted' | Error {
  try {
    verify()
    return 'accepted'
  } catch (error) {
    return error instanceof SpiffeError ? 'refused' : error as Error
  }
}
