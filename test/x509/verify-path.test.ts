import { constants, generateKeyPairSync, sign } from 'node:crypto'
import t from 'tap'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { encodeBitString, encodeOid, encodeSequence } from '../../src/x509/der-writer.ts'
import { encodeExtension } from '../../src/x509/encode-extension.ts'
import { encodeName } from '../../src/x509/name.ts'
import { oid } from '../../src/x509/oid.ts'
import { verifyX509Svid } from '../../src/x509/verify-svid.ts'
import { makeTestKey } from '../fakes/authority.ts'
import {
  altNames, basicConstraints, caExtensions, extendedKeyUsage, forge, keyUsage, leafExtensions, nameConstraints, nameOf, noon,
  unknownExtension, type Forged, type ForgeOptions
} from './forge-certificate.ts'
import { bundleOf, caWith, leafOf, leafWith, options, root, untrusted, uris, verify } from '../fakes/chains.ts'

void t.test('the path (X509-SVID §5.1, RFC 5280 §6.1)', async t => {
  const middle = forge({ issuer: root, subject: 'middle', extensions: caExtensions() })
  const lower = forge({ issuer: middle, subject: 'lower', extensions: caExtensions() })
  const direct = leafOf(root)
  const deep = leafOf(lower)
  const stranger = forge({ subject: 'stranger', extensions: caExtensions() })

  const result = verify([deep, lower, middle])
  t.equal(result.id, 'spiffe://example.org/web', 'X509-10 signing certificates may issue further ones')
  t.strictSame(result.chain, [deep.der, lower.der, middle.der])
  t.equal(result.leaf.serialNumber, '1')
  t.ok(verify([direct, middle, stranger, lower]), 'AMB-25 unrelated certificates after the leaf are ignored')
  t.ok(verify([deep, stranger, middle, direct, lower]), 'AMB-25 the others may come in any order')
  t.throws(() => verify([lower, deep, middle]), { code: 'x509_svid_invalid', requirement: 'X509-06' }, 'AMB-25 the leaf is first')
  t.throws(() => verify([deep, lower]), untrusted('X509-21'), 'a missing intermediate')
  t.throws(() => verify([leafOf(stranger), stranger]), untrusted('X509-21'), 'X509-21 a root that comes with the chain is no anchor')
  t.throws(() => verify([]), { code: 'x509_svid_invalid', requirement: 'X509-19' }, 'no certificate')
  t.throws(() => verify(Array.from({ length: 17 }, () => direct)), { code: 'x509_svid_invalid', requirement: 'X509-19' }, '17 certificates')
  const trailing = Buffer.concat([direct.der, direct.der])
  t.throws(() => verifyX509Svid([trailing], options()), { code: 'x509_svid_invalid' }, 'TS-06 two certificates in one are refused')
  const tainted = bundleOf(root, { tainted: true })
  t.ok(verifyX509Svid([direct.der], { bundleOf: () => tainted, at: noon }), 'a tainted authority still verifies')
  t.ok(verifyX509Svid([deep.der, lower.der], options(middle)), 'an intermediate in the bundle is an anchor')

  const forged = leafOf({ ...root, key: makeTestKey() })
  t.throws(() => verify([forged]), untrusted('X509-19'), 'X509-19 a signature of another key is refused')

  const issuers: [requirement: string, rule: string, change: Partial<ForgeOptions>][] = [
    ['X509-07', 'no keyCertSign', caWith({ [oid.keyUsage]: keyUsage(['cRLSign']) })],
    ['X509-07', 'no key usage', caWith({ [oid.keyUsage]: undefined })],
    ['X509-09', 'an ID with a path', caWith({ [oid.subjectAltName]: uris('spiffe://example.org/ca') })],
    ['X509-09', 'an ID with a trailing slash', caWith({ [oid.subjectAltName]: uris('spiffe://example.org/') })],
    ['X509-02', 'two URIs', caWith({ [oid.subjectAltName]: uris('spiffe://example.org', 'spiffe://b.test') })],
    ['X509-18', 'AMB-23 an EKU without clientAuth', caWith({ [oid.extendedKeyUsage]: extendedKeyUsage([oid.serverAuth]) })],
    ['X509-18', 'AMB-23 an EKU without serverAuth', caWith({ [oid.extendedKeyUsage]: extendedKeyUsage([oid.clientAuth]) })],
    ['X509-19', 'an unknown critical extension', caWith({ unknown: unknownExtension(true) })]
  ]
  for (const [requirement, rule, change] of issuers) {
    const issuer = forge({ issuer: root, subject: 'issuer', ...change })
    t.throws(() => verify([leafOf(issuer), issuer]), untrusted(requirement), `${requirement} an issuer with ${rule} is refused`)
  }
  for (const [rule, change] of [
    ['X509-11 without basicConstraints', caWith({ [oid.basicConstraints]: undefined })],
    ['X509-11 with cA false', caWith({ [oid.basicConstraints]: basicConstraints(false) })],
    ['X509-06 that is a leaf', leafWith({})]
  ] as const) {
    const issuer = forge({ issuer: root, subject: 'issuer', ...change })
    t.throws(() => verify([leafOf(issuer), issuer]), { code: 'x509_chain_untrusted' }, `an issuer ${rule} is refused`)
  }
  for (const [rule, change] of [
    ['X509-10 of another trust domain', caWith({ [oid.subjectAltName]: uris('spiffe://b.test') })],
    ['X509-08 AMB-23 without an ID', caWith({})],
    ['AMB-23 with an EKU for both purposes', caWith({ [oid.extendedKeyUsage]: extendedKeyUsage([oid.serverAuth, oid.clientAuth]) })],
    ['AMB-23 with an EKU for any purpose', caWith({ [oid.extendedKeyUsage]: extendedKeyUsage([oid.anyExtendedKeyUsage]) })],
    ['with critical certificate policies', caWith({
      policies: encodeExtension(oid.certificatePolicies, true, encodeSequence(encodeSequence(encodeOid('2.5.29.32.0'))))
    })]
  ] as const) {
    const issuer = forge({ issuer: root, subject: 'issuer', ...change })
    t.ok(verify([leafOf(issuer), issuer]), `an intermediate ${rule} is accepted`)
  }

  const anchors: [rule: string, accepted: boolean, change: Partial<ForgeOptions>][] = [
    ['AMB-03 an ID with a trailing slash', true, caWith({ [oid.subjectAltName]: uris('spiffe://example.org/') })],
    ['no key usage, as old roots', true, caWith({ [oid.keyUsage]: undefined })],
    ['X509-07 no keyCertSign', false, caWith({ [oid.keyUsage]: keyUsage(['cRLSign']) })],
    ['X509-07 no cA', false, caWith({ [oid.basicConstraints]: basicConstraints(false) })],
    ['X509-19 an unknown critical extension', false, caWith({ unknown: unknownExtension(true) })]
  ]
  for (const [rule, accepted, change] of anchors) {
    const anchor = forge({ subject: 'anchor', ...change })
    const attempt = () => verifyX509Svid([leafOf(anchor).der], options(anchor))
    if (accepted) t.ok(attempt(), `an authority with ${rule} is accepted`)
    else t.throws(attempt, { code: 'x509_chain_untrusted' }, `an authority with ${rule} is refused`)
  }
  const junk = { certificate: Buffer.from('junk'), tainted: false }
  const mixed: Bundle = { ...bundleOf(root), x509Authorities: [junk, ...bundleOf(root).x509Authorities] }
  t.ok(verifyX509Svid([direct.der], { bundleOf: () => mixed, at: noon }), 'an authority that cannot be read does not spoil the others')
})

void t.test('X509-19 path length', async t => {
  const limited = forge({ subject: 'limited', extensions: { ...caExtensions(), [oid.basicConstraints]: basicConstraints(true, 0) } })
  const below = forge({ issuer: limited, subject: 'below', extensions: caExtensions() })
  t.ok(verifyX509Svid([leafOf(limited).der], options(limited)), 'zero allows leaves')
  t.throws(() => verifyX509Svid([leafOf(below).der, below.der], options(limited)), untrusted('X509-19'), 'zero allows no further CA')
  const rekeyed = forge({ issuer: limited, subject: limited.subjectDer, extensions: caExtensions() })
  t.ok(verifyX509Svid([leafOf(rekeyed).der, rekeyed.der], options(limited)), 'a self-issued certificate does not count')
  const one = forge({ issuer: root, subject: 'one', extensions: { ...caExtensions(), [oid.basicConstraints]: basicConstraints(true, 1) } })
  const two = forge({ issuer: one, subject: 'two', extensions: caExtensions() })
  const three = forge({ issuer: two, subject: 'three', extensions: caExtensions() })
  t.ok(verify([leafOf(two), two, one]), 'one allows one')
  t.throws(() => verify([leafOf(three), three, two, one]), untrusted('X509-19'), 'one allows no two')
})

void t.test('X509-19 validity at both bounds', async t => {
  const hour = { notBefore: new Date('2026-03-01T11:30:00Z'), notAfter: new Date('2026-03-01T12:30:00Z') }
  const shortRoot = forge({ subject: 'root', extensions: caExtensions(), ...hour })
  const expired = { code: 'x509_svid_expired', requirement: 'X509-19' }
  for (const [which, leaf, anchor] of [
    ['a leaf', forge({ issuer: root, ...leafWith({}), ...hour }), root], ['an authority', leafOf(shortRoot), shortRoot]
  ] as const) {
    const at = (time: string) => () => verifyX509Svid([leaf.der], { ...options(anchor), at: new Date(time) })
    t.ok(at('2026-03-01T11:30:00Z')(), `the first instant of ${which}`)
    t.ok(at('2026-03-01T12:30:00Z')(), `the last instant of ${which}`)
    t.throws(at('2026-03-01T11:29:59.999Z'), expired, `${which} that is not yet valid`)
    t.throws(at('2026-03-01T12:30:00.001Z'), expired, `${which} that has expired`)
  }

  const short = { notBefore: new Date('2026-03-01T11:00:00Z'), notAfter: new Date('2026-03-01T11:59:59Z') }
  const expiredMiddle = forge({ issuer: root, subject: 'middle', extensions: caExtensions(), ...short })
  t.throws(() => verify([leafOf(expiredMiddle), expiredMiddle]), expired, 'an expired intermediate')

  const renewed = forge({ issuer: root, subject: 'middle', key: expiredMiddle.key, extensions: caExtensions() })
  t.ok(verify([leafOf(expiredMiddle), expiredMiddle, renewed]), 'a renewed intermediate replaces the expired one')
  const soon = forge({ issuer: root, subject: 'soon', extensions: caExtensions(), notAfter: new Date('2026-03-01T13:00:00Z') })
  t.strictSame(verify([leafOf(soon), soon]).expiresAt, new Date('2026-03-01T13:00:00Z'), 'the SVID ends with the soonest end on its path')
})

void t.test('X509-19 X509-12 name constraints', async t => {
  const check = (permitted: readonly Uint8Array[], excluded: readonly Uint8Array[], leaf: Partial<ForgeOptions> = leafWith({})) => () => {
    const issuer = forge({ issuer: root, subject: 'issuer', ...caWith({ names: nameConstraints(permitted, excluded) }) })
    return verify([forge({ issuer, ...leaf }), issuer])
  }
  const { uri, dns, ip, email, directory, registeredId } = nameOf
  const named = leafWith({
    [oid.subjectAltName]: altNames([uri('spiffe://example.org/web'), dns('web.example.org'), ip([10, 1, 2, 3]), email('a@example.org')])
  })
  const subject = encodeName([[oid.organization, 'Example'], [oid.commonName, 'web']])
  const accepted: [string, () => unknown][] = [
    ['URI permitted: the host', check([uri('example.org')], [])],
    ['URI permitted: one of several', check([uri('b.test'), uri('example.org')], [])],
    ['URI permitted: case does not matter', check([uri('EXAMPLE.org')], [])],
    ['URI permitted: a domain above', check([uri('.org')], [])],
    ['URI excluded: another', check([], [uri('b.test')])],
    ['URI excluded: hosts below only', check([], [uri('.example.org')])],
    ['DNS permitted, and no DNS name', check([dns('b.test')], [])],
    ['DNS permitted: a domain above', check([dns('example.org')], [], named)],
    ['DNS excluded: a sibling that ends alike', check([], [dns('b.example.org')], named)],
    ['IP permitted', check([ip([10, 0, 0, 0, 255, 0, 0, 0])], [], named)],
    ['IP of another family', check([], [ip(Array.from({ length: 32 }, () => 0))], named)],
    ['directory permitted', check([directory(encodeName([[oid.organization, 'Example']]))], [], { ...leafWith({}), subject })],
    ['email constrained, and no email', check([email('b.test')], [])]
  ]
  for (const [rule, attempt] of accepted) t.ok(attempt(), rule)
  const refused: [string, () => unknown][] = [
    ['URI permitted: another host', check([uri('b.test')], [])],
    ['URI permitted: a host is not the hosts below', check([uri('org')], [])],
    ['URI permitted: hosts below are not the host', check([uri('.example.org')], [])],
    ['URI excluded: the host', check([uri('example.org')], [uri('example.org')])],
    ['URI excluded: all', check([], [uri('')])],
    ['DNS permitted: another', check([dns('b.test')], [], named)],
    ['DNS permitted: one that only ends alike', check([dns('ample.org')], [], named)],
    ['DNS excluded: a domain above', check([], [dns('org')], named)],
    ['IP not permitted', check([ip([192, 168, 0, 0, 255, 255, 0, 0])], [], named)],
    ['IP excluded', check([], [ip([10, 1, 2, 0, 255, 255, 255, 0])], named)],
    ['directory not permitted', check([directory(encodeName([[oid.organization, 'Other']]))], [], { ...leafWith({}), subject })],
    ['directory excluded', check([], [directory(encodeName([[oid.organization, 'Example']]))], { ...leafWith({}), subject })],
    ['a name that cannot be compared', check([email('example.org')], [], named)],
    ['a form that is not understood', check([registeredId('1.2.3')], [])],
    ['URI constraints and a host that is an IP address', () => {
      const ip = forge({ subject: 'ip', extensions: { ...caExtensions(), names: nameConstraints([], [uri('b.test')]) } })
      const leaf = forge({ issuer: ip, extensions: leafExtensions('spiffe://10.0.0.1/web') })
      const bundle = { ...bundleOf(ip), trustDomain: parseTrustDomain('10.0.0.1') }
      return verifyX509Svid([leaf.der], { bundleOf: () => bundle, at: noon })
    }]
  ]
  for (const [rule, attempt] of refused) t.throws(attempt, untrusted('X509-19'), rule)

  const top = forge({ issuer: root, subject: 'top', extensions: { ...caExtensions(), names: nameConstraints([uri('example.org')]) } })
  const inner = forge({ issuer: top, subject: 'inner', extensions: caExtensions('spiffe://b.test') })
  t.throws(() => verify([leafOf(inner), inner, top]), untrusted('X509-19'), 'constraints bind the intermediates below')
})

void t.test('AMB-24 weak algorithms and keys', async t => {
  const rsa = makeTestKey('rsa-2048')
  const rsaRoot = forge({ subject: 'rsa', key: rsa, extensions: caExtensions() })
  const leaf = leafExtensions('spiffe://example.org/web')
  const verifyUnder = (anchor: Forged, chain: readonly Forged[]) => verifyX509Svid(chain.map(({ der }) => der), options(anchor))
  const weak = { code: 'x509_svid_invalid', requirement: 'AMB-24' }

  t.ok(verifyUnder(rsaRoot, [forge({ issuer: rsaRoot, extensions: leaf })]), 'RSA-2048 with SHA-256')
  const pss = '304106092a864886f70d01010a3034a00f300d06096086480165030402010500a11c301a06092a864886f70d010108300d0609608648016503040201' +
    '0500a203020120'
  const draft = parseCertificate(forge({ issuer: rsaRoot, extensions: leaf, algorithm: pss }).der)
  const signature = sign('sha256', draft.tbs, { key: rsa, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 })
  const signedPss = encodeSequence(draft.tbs, Buffer.from(pss, 'hex'), encodeBitString(signature))
  t.ok(verifyX509Svid([signedPss], options(rsaRoot)), 'RSA-PSS with SHA-256')
  t.throws(() => verifyX509Svid([draft.raw], options(rsaRoot)), untrusted('X509-19'), 'PKCS#1 v1.5 in place of PSS')
  const sha1WithRsa = { digest: 'sha1', algorithm: '300d06092a864886f70d0101050500' }
  const md5WithRsa = { digest: 'md5', algorithm: '300d06092a864886f70d0101040500' }
  const ecdsaWithSha1 = { digest: 'sha1', algorithm: '300906072a8648ce3d0401' }
  t.throws(() => verifyUnder(rsaRoot, [forge({ issuer: rsaRoot, extensions: leaf, ...sha1WithRsa })]), weak, 'sha1WithRSA')
  t.throws(() => verifyUnder(rsaRoot, [forge({ issuer: rsaRoot, extensions: leaf, ...md5WithRsa })]), weak, 'md5WithRSA')
  t.throws(() => verify([forge({ issuer: root, extensions: leaf, ...ecdsaWithSha1 })]), weak, 'ecdsa-with-SHA1')
  const sha1Root = forge({ subject: 'sha1', extensions: caExtensions(), ...ecdsaWithSha1 })
  t.throws(() => verifyUnder(sha1Root, [leafOf(sha1Root)]), weak, 'a CA whose own signature has SHA-1')

  const short = generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey
  t.throws(() => verify([forge({ issuer: root, key: short, extensions: leaf })]), weak, 'a leaf with RSA-1024')
  const shortRoot = forge({ subject: 'short', key: short, extensions: caExtensions() })
  t.throws(() => verifyUnder(shortRoot, [leafOf(shortRoot)]), { code: 'x509_chain_untrusted' }, 'an authority with RSA-1024')
  const shortMiddle = forge({ issuer: root, subject: 'short', key: short, extensions: caExtensions() })
  t.throws(() => verify([leafOf(shortMiddle), shortMiddle]), { code: 'x509_chain_untrusted' }, 'an intermediate with RSA-1024')
  const p224 = generateKeyPairSync('ec', { namedCurve: 'secp224r1' }).privateKey
  t.throws(() => verify([forge({ issuer: root, key: p224, extensions: leaf })]), weak, 'a leaf with P-224')

  for (const [name, issuer, algorithm, digest] of [
    ['P-384 with SHA-384', generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey, '300a06082a8648ce3d040303', 'sha384'],
    ['P-521 with SHA-512', generateKeyPairSync('ec', { namedCurve: 'P-521' }).privateKey, '300a06082a8648ce3d040304', 'sha512'],
    ['RSA with SHA-512', rsa, '300d06092a864886f70d01010d0500', 'sha512'],
    ['Ed25519', generateKeyPairSync('ed25519').privateKey, '300506032b6570', 'none']
  ] as const) {
    const ca = forge({ subject: 'ca', key: issuer, extensions: caExtensions(), algorithm, digest })
    t.ok(verifyUnder(ca, [forge({ issuer: ca, extensions: leaf, algorithm, digest })]), `${name} is accepted`)
  }
  const confused = forge({ issuer: root, extensions: leaf, algorithm: '300d06092a864886f70d01010b0500' })
  t.throws(() => verify([confused]), untrusted('X509-19'), 'an algorithm of another kind than the key')
})
