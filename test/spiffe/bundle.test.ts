import 'reflect-metadata'
import { createPublicKey, generateKeyPairSync, webcrypto, X509Certificate, type KeyObject } from 'node:crypto'
import * as x509 from '@peculiar/x509'
import fc from 'fast-check'
import { CompactSign, compactVerify, createLocalJWKSet } from 'jose'
import t from 'tap'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { formatBundleDocument, formatJwtBundle, parseBundleDocument } from '../../src/spiffe/bundle-document.ts'
import {
  appendAuthorities, pruneExpired, removeJwtAuthority, removeX509Authority, taintJwtAuthority, taintX509Authority, withContent
} from '../../src/spiffe/bundle-change.ts'
import { formatBundleMap, parseBundleMap } from '../../src/spiffe/bundle-map.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'

type Json = Record<string, unknown>

const domain = parseTrustDomain('example.org')
const other = parseTrustDomain('other.org')
const ca1 = await createCertificate({ ca: true, notAfter: '2030-01-01T00:00:00Z' })
const ca2 = await createCertificate({ ca: true, notAfter: '2040-01-01T00:00:00Z', uri: 'spiffe://example.org/' })
const rsaCa = await createCertificate({ ca: true, notAfter: '2040-01-01T00:00:00Z', rsa: true })
const leaf = await createCertificate({ ca: false, notAfter: '2030-01-01T00:00:00Z' })
const p256 = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
const weakRsa = generateKeyPairSync('rsa', { modulusLength: 1024 })

const full: Bundle = {
  trustDomain: domain,
  x509Authorities: [ca1, ca2, rsaCa].map(certificate => ({ certificate, tainted: false })),
  jwtAuthorities: [
    { keyId: 'ec', publicKey: spkiOf(p256.publicKey), tainted: false },
    { keyId: 'rsa', publicKey: spkiOf(rsa.publicKey), tainted: false }
  ],
  sequenceNumber: 2n ** 63n + 1n,
  refreshHintSeconds: 300
}

void t.test('reading a bundle (Trust Domain and Bundle §4)', async t => {
  t.same(read({ keys: [] }), { trustDomain: 'example.org', x509Authorities: [], jwtAuthorities: [] },
    'TDB-13 empty keys: nothing is trusted')
  t.same(read({ keys: [{ kty: 'EC' }] }).x509Authorities, [], 'TDB-13 nothing usable: nothing is trusted')
  t.equal(parseBundleDocument('{"keys":[]}', other).trustDomain, 'other.org', 'TDB-02 the name comes with the document, not out of it')
  t.same(read({ keys: [x509Key(ca1)], extra: { a: 1 }, trust_domain: 'evil.org' }), read({ keys: [x509Key(ca1)] }),
    'TDB-05 extra members change nothing')

  const refused: [string, unknown, string][] = [
    ['TDB-01 a bundle is an object', [], 'TDB-01'], ['TDB-01 keys holds objects', { keys: [1] }, 'TDB-01'],
    ['TDB-10 keys is present', {}, 'TDB-10'], ['TDB-10 keys is an array', { keys: {} }, 'TDB-10'],
    ['TDB-10 keys is not null', { keys: null }, 'TDB-10'],
    ...['1', 1.5, null, true, -1].map(value => [`TDB-06 the sequence is an integer, not ${JSON.stringify(value)}`,
      { keys: [], spiffe_sequence: value }, 'TDB-0'] satisfies [string, unknown, string]),
    ...['300', 1.5, null, -1].map(value => [`TDB-08 the hint is an integer, not ${JSON.stringify(value)}`,
      { keys: [], spiffe_refresh_hint: value }, 'TDB-08'] satisfies [string, unknown, string])
  ]
  for (const [rule, document, requirement] of refused) t.throws(() => read(document), { code: 'bundle_malformed', requirement }, rule)
  t.throws(() => parseBundleDocument('{"keys":[],"keys":[]}', domain), { code: 'bundle_malformed' }, 'TS-03 a repeated member is refused')
  t.throws(() => parseBundleDocument('not json', domain), { code: 'bundle_malformed', requirement: 'TDB-01' }, 'TDB-01 is JSON')
  t.throws(() => parseBundleDocument('{"keys":[],"spiffe_sequence":18446744073709551616}', domain),
    { code: 'bundle_malformed', requirement: 'TDB-07' }, 'TDB-07 more than 64 bits are refused')
  const largest = parseBundleDocument('{"keys":[],"spiffe_sequence":18446744073709551615}', domain)
  t.equal(largest.sequenceNumber, 2n ** 64n - 1n, 'TDB-07 64 bits are kept')
  t.equal(read({ keys: [], refresh_hint: 60 }).refreshHintSeconds, undefined, 'AMB-05 the short name of the hint is unknown')
  t.equal(read({ keys: [], spiffe_refresh_hint: 60 }).refreshHintSeconds, 60)
})

void t.test('keys that are skipped while the rest stays', async t => {
  const good = [x509Key(ca1), jwtKey(p256.publicKey, 'good')]
  const { crv, x, y } = p256.publicKey.export({ format: 'jwk' })
  const cases: [string, Json, RegExp][] = [
    ['TDB-11 unknown kty for JWT', { kty: 'OKP', crv: 'Ed25519', x: 'AA', use: 'jwt-svid', kid: 'a' }, /kty "OKP" is unknown/],
    ['TDB-11 unknown kty for X.509', { ...x509Key(ca2), kty: 'PQ' }, /kty "PQ" is unknown/],
    ['TDB-11 missing kty', { ...jwtKey(p256.publicKey, 'a'), kty: undefined }, /kty null is unknown/],
    ['TDB-12 missing use', { ...jwtKey(p256.publicKey, 'a'), use: undefined }, /use is missing/],
    ['TDB-12 unknown use', { ...jwtKey(p256.publicKey, 'a'), use: 'sig' }, /use "sig" is unknown/],
    ['TDB-12 use is case-sensitive', { ...x509Key(ca2), use: 'X509-SVID' }, /use "X509-SVID" is unknown/],
    ['TDB-12 use is a string', { ...x509Key(ca2), use: ['x509-svid'] }, /use is missing or no string/],
    ['AMB-04 WIT keys while WIT is off', { ...jwtKey(p256.publicKey, 'a'), use: 'wit-svid' }, /use "wit-svid" is unknown/],
    ['X509-25 missing x5c', { ...x509Key(ca2), x5c: undefined }, /x5c is missing or empty/],
    ['X509-25 empty x5c', { ...x509Key(ca2), x5c: [] }, /x5c is missing or empty/],
    ['X509-25 x5c that is no array', { ...x509Key(ca2), x5c: 'AA' }, /x5c is missing or empty/],
    ['X509-23 base64url', { ...x509Key(ca2), x5c: [Buffer.from(ca2).toString('base64url')] }, /standard base64|not a certificate/],
    ['X509-23 PEM', { ...x509Key(ca2), x5c: [new X509Certificate(ca2).toString()] }, /standard base64/],
    ['X509-23 base64 of PEM', { ...x509Key(ca2), x5c: [Buffer.from(new X509Certificate(ca2).toString()).toString('base64')] },
      /certificate/],
    ['TS-06 two certificates in one value', { ...x509Key(ca2), x5c: [Buffer.concat([ca2, ca1]).toString('base64')] },
      /more than one certificate/],
    ['a leaf', x509Key(leaf), /not a CA/],
    ['X509-22 a certificate of another key', { ...x509Key(ca2), x5c: x509Key(ca1).x5c }, /another key/],
    ['JWT-18 missing kid', { ...jwtKey(p256.publicKey, ''), kid: undefined }, /kid is missing/],
    ['JWT-18 empty kid', jwtKey(p256.publicKey, ''), /kid is missing/],
    ['JWT-18 repeated kid', jwtKey(rsa.publicKey, 'good'), /kid "good" is repeated/],
    ['JWT-19 an x509-svid key is no JWT key', { ...jwtKey(p256.publicKey, 'a'), use: 'x509-svid' }, /x5c is missing/],
    ['AMB-24 RSA below 2048 bits', jwtKey(weakRsa.publicKey, 'a'), /modulus of 1024 bits/],
    ['a private key', { ...p256.privateKey.export({ format: 'jwk' }), use: 'jwt-svid', kid: 'a' }, /private member d is published/],
    ['a point off the curve', { kty: 'EC', crv, x: y, y: x, use: 'jwt-svid', kid: 'a' }, /not a point/],
    ['a short coordinate', { kty: 'EC', crv, x: 'AA', y, use: 'jwt-svid', kid: 'a' }, /x is not 32 bytes/],
    ['an unknown curve', { kty: 'EC', crv: 'secp256k1', x, y, use: 'jwt-svid', kid: 'a' }, /crv is none of/],
    ['a curve named like a property', { kty: 'EC', crv: 'constructor', x, y, use: 'jwt-svid', kid: 'a' }, /crv is none of/]
  ]
  for (const [rule, key, reason] of cases) {
    const notes: string[] = []
    const bundle = parseBundleDocument(JSON.stringify({ keys: [good[0], good[1], key] }), domain, note => notes.push(note))
    t.same(bundle, read({ keys: good }), rule)
    t.equal(notes.length, 1, 'one note')
    t.match(notes[0], reason)
    t.match(notes[0], /^keys\[2\] is skipped: /)
  }
  const two = read({ keys: [{ ...x509Key(ca1), x5c: [...x509Key(ca1).x5c as string[], 'garbage'] }] })
  t.same(two.x509Authorities.map(({ certificate }) => certificate), [ca1], 'X509-25 x5c[0] is taken, later values are ignored')
})

void t.test('which key serves what', async t => {
  const bundle = read({ keys: [x509Key(ca1), jwtKey(p256.publicKey, 'a'), x509Key(ca2), x509Key(ca1), jwtKey(rsa.publicKey, 'b')] })
  t.same(bundle.x509Authorities.map(({ certificate }) => certificate), [ca1, ca2], 'X509-26 the CA set is the union over all entries')
  t.same(bundle.jwtAuthorities.map(({ keyId }) => keyId), ['a', 'b'], 'JWT-19 only jwt-svid keys are JWT keys')
  t.same(read({ keys: [jwtKey(p256.publicKey, 'a')] }).x509Authorities, [], 'X509-26 none means no X509-SVIDs')
  t.same(read({ keys: [x509Key(ca1)] }).jwtAuthorities, [], 'JWT-20 none means no JWT-SVIDs')
  t.same(read({ keys: [x509Key(ca2)] }).x509Authorities.length, 1, 'AMB-03 a foreign anchor is not dropped over its URI SAN')
})

void t.test('publishing a bundle', async t => {
  const text = formatBundleDocument(full)
  const document = JSON.parse(text) as { keys: Json[] }
  const x509Keys = document.keys.filter(({ use }) => use === 'x509-svid')
  const jwtKeys = document.keys.filter(({ use }) => use === 'jwt-svid')
  t.same(Object.keys(document), ['keys', 'spiffe_sequence', 'spiffe_refresh_hint'],
    'TDB-01 a JWK Set; TDB-06 and TDB-08 with sequence and hint')
  t.match(text, '"spiffe_sequence":9223372036854775809,', 'TDB-07 all digits of the sequence')
  t.equal(x509Keys.length, 3, 'X509-22 one JWK per CA certificate')
  t.equal(jwtKeys.length, 2, 'JWT-18 one JWK per signing key')
  t.ok(x509Keys.every(key => !('kid' in key)), 'X509-22 no kid')
  t.ok(x509Keys.every(({ x5c }) => (x5c as string[]).length === 1), 'X509-23 exactly one x5c value')
  const encoded = [ca1, ca2, rsaCa].map(der => Buffer.from(der).toString('base64'))
  t.same(x509Keys.map(({ x5c }) => (x5c as string[])[0]), encoded, 'X509-23 standard base64 of DER')
  for (const key of x509Keys) {
    const certificate = new X509Certificate(Buffer.from((key.x5c as string[])[0]!, 'base64'))
    t.ok(certificate.publicKey.equals(createPublicKey({ key, format: 'jwk' })), 'X509-22 the JWK holds the key of its certificate')
  }
  t.same(jwtKeys.map(({ kid }) => kid), ['ec', 'rsa'], 'JWT-18 kid is set')
  const members = new Set(['kty', 'use', 'kid', 'crv', 'x', 'y', 'n', 'e', 'x5c'])
  t.ok(document.keys.every(key => Object.keys(key).every(name => members.has(name))), 'TDB-14 no other members')
  t.ok(document.keys.every(({ kty, use }) => typeof kty === 'string' && typeof use === 'string'), 'TDB-14 kty and use in every JWK')
  t.notMatch(text, 'wit-svid', 'AMB-04 no WIT keys while WIT is off')
  t.same(parseBundleDocument(text, domain, refuseNotes), full, 'round trip')
  t.same(parseBundleDocument(formatBundleDocument(full, { indent: 2 }), domain, refuseNotes), full, 'round trip, indented')
  t.same(JSON.parse(formatBundleDocument({ ...full, x509Authorities: [], jwtAuthorities: [] })), {
    keys: [], spiffe_sequence: Number(full.sequenceNumber), spiffe_refresh_hint: 300
  }, 'TDB-10 keys is there when it is empty')
  t.throws(() => formatBundleDocument({ ...full, x509Authorities: [{ certificate: Buffer.concat([ca1, ca2]), tainted: false }] }),
    { code: 'bundle_malformed' }, 'X509-22 two certificates are not published as one')
})

void t.test('JWT keys for the Workload API', async t => {
  const set = JSON.parse(formatJwtBundle(full)) as { keys: Json[] }
  t.same(Object.keys(set), ['keys'], 'AMB-12 no spiffe_ members')
  t.same(set.keys.map(key => Object.keys(key)), [['kty', 'kid', 'crv', 'x', 'y'], ['kty', 'kid', 'n', 'e']], 'AMB-12 no use')
  t.same(set.keys.map(({ kid }) => kid), ['ec', 'rsa'], 'WLAPI-26 JWT keys only')
  const find = createLocalJWKSet(set)
  for (const [alg, kid, key] of [['ES256', 'ec', p256.privateKey], ['RS256', 'rsa', rsa.privateKey]] as const) {
    const token = await new CompactSign(Buffer.from('{}')).setProtectedHeader({ alg, kid }).sign(key)
    t.equal((await compactVerify(token, find)).protectedHeader.kid, kid, 'jose verifies with it')
  }
})

void t.test('changing a bundle', async t => {
  const start: Bundle = {
    ...full, sequenceNumber: 7n, x509Authorities: [{ certificate: ca1, tainted: false }], jwtAuthorities: [full.jwtAuthorities[0]!]
  }
  const next = { certificate: ca2, tainted: false }
  const appended = appendAuthorities(start, { x509Authorities: [next, next], jwtAuthorities: [full.jwtAuthorities[1]!] })
  t.same(appended, { ...full, sequenceNumber: 8n, x509Authorities: [start.x509Authorities[0], next] },
    'TDB-15 rotation adds the new key beside the old')
  t.equal(appendAuthorities(appended, { x509Authorities: [next] }), appended, 'TDB-06 no change of content, no change of sequence')
  t.equal(withContent(start, { x509Authorities: [...start.x509Authorities], refreshHintSeconds: 300 }), start,
    'TDB-06 equal content is no change')
  t.equal(withContent(start, { refreshHintSeconds: 60 }).sequenceNumber, 8n, 'TDB-06 another hint is a change')
  t.equal(withContent({ ...start, sequenceNumber: undefined }, { refreshHintSeconds: 60 }).sequenceNumber, 1n, 'TDB-06 numbering starts')
  t.equal(withContent(appended, { x509Authorities: appended.x509Authorities.toReversed() }), appended, 'order is no content')
  t.throws(() => appendAuthorities(start, { jwtAuthorities: [{ ...full.jwtAuthorities[1]!, keyId: 'ec' }] }), { code: 'bundle_malformed' },
    'a key ID keeps its key')

  const tainted = taintX509Authority(appended, ca1)
  t.same(tainted.x509Authorities.map(authority => authority.tainted), [true, false])
  t.equal(tainted.sequenceNumber, 9n, 'TDB-06 a taint is a change')
  t.equal(taintX509Authority(tainted, ca1), tainted, 'tainting twice is tainting once')
  t.equal(appendAuthorities(tainted, { x509Authorities: [{ certificate: ca1, tainted: false }] }), tainted, 'appending does not untaint')
  t.same(taintJwtAuthority(appended, 'rsa').jwtAuthorities.map(authority => authority.tainted), [false, true])
  t.same(parseBundleDocument(formatBundleDocument(tainted), domain).x509Authorities.length, 2, 'a tainted authority is still published')

  const revoked = removeX509Authority(tainted, ca1)
  t.same(revoked.x509Authorities.map(({ certificate }) => certificate), [ca2], 'TDB-15 revocation publishes a bundle without the key')
  t.equal(removeX509Authority(revoked, ca1), revoked, 'removing what is not there is no change')
  t.same(removeJwtAuthority(appended, 'ec').jwtAuthorities.map(({ keyId }) => keyId), ['rsa'], 'TDB-15 for JWT keys too')

  const aged = { ...full.jwtAuthorities[0]!, expiresAt: new Date('2026-01-01T00:00:00Z') }
  const aging: Bundle = { ...appended, jwtAuthorities: [aged, full.jwtAuthorities[1]!] }
  t.equal(pruneExpired(aging, new Date('2026-01-01T00:00:00Z')), aging, 'valid at the very end')
  t.same(pruneExpired(aging, new Date('2026-01-01T00:00:00.001Z')).jwtAuthorities.map(({ keyId }) => keyId), ['rsa'])
  t.same(pruneExpired(aging, new Date('2031-01-01T00:00:00Z')).x509Authorities.map(({ certificate }) => certificate), [ca2])

  const changes = fc.array(fc.tuple(fc.constantFrom('append', 'taint', 'remove'), fc.constantFrom(ca1, ca2, rsaCa)))
  fc.assert(fc.property(changes, list => {
    let bundle: Bundle = { ...start, x509Authorities: [] }
    for (const [kind, certificate] of list) {
      const before = bundle
      bundle = kind === 'append' ? appendAuthorities(before, { x509Authorities: [{ certificate, tainted: false }] })
        : kind === 'taint' ? taintX509Authority(before, certificate) : removeX509Authority(before, certificate)
      const isSame = JSON.stringify(bundle.x509Authorities) === JSON.stringify(before.x509Authorities)
      if (bundle.sequenceNumber !== before.sequenceNumber! + (isSame ? 0n : 1n)) return false
    }
    return new Set(bundle.x509Authorities.map(authority => authority.certificate)).size === bundle.x509Authorities.length
  }))
  t.pass('TDB-06 the sequence grows by one with each change of content and only then')
})

void t.test('a bundle map (Trust Domain and Bundle §5.1)', async t => {
  const own = JSON.stringify({ keys: [x509Key(ca1)], spiffe_refresh_hint: 5, spiffe_sequence: 3 })
  const map = parseBundleMap(`{"trust_domains":{"example.org":${own},"__proto__":{"keys":[]}},"extra":1}`)
  t.same([...map.keys()], ['example.org', '__proto__'], 'TDB-16 names map to bundles; TS-03 __proto__ is a name')
  t.equal(map.get(domain)?.trustDomain, 'example.org', 'TDB-02 each bundle goes with its name')
  t.equal(map.get(domain)?.refreshHintSeconds, undefined, 'TDB-19 the hint of one bundle paces nothing')
  t.equal(map.get(domain)?.sequenceNumber, 3n)
  t.equal(parseBundleMap('{"trust_domains":{}}').size, 0, 'AMB-05 an empty map is legal')

  const refused: [string, string, string][] = [
    ['TDB-16 trust_domains is present', '{}', 'TDB-16'],
    ['TDB-16 trust_domains is an object', '{"trust_domains":[]}', 'TDB-16'],
    ['TDB-16 names are bare', '{"trust_domains":{"spiffe://a":{"keys":[]}}}', 'ID-0'],
    ['TDB-16 names are lowercase', '{"trust_domains":{"Example.org":{"keys":[]}}}', 'ID-05'],
    ['TDB-16 values are bundles', '{"trust_domains":{"a":1}}', 'TDB-16'],
    ['TDB-18 a repeated name', '{"trust_domains":{"a":{"keys":[]},"b":{"keys":[]},"a":{"keys":[]}}}', 'TDB-18'],
    ['TDB-18 a repeated name, spelled otherwise', '{"trust_domains":{"a":{"keys":[]},"\\u0061":{"keys":[]}}}', 'TDB-18'],
    ['TDB-20 one malformed bundle refuses the whole map', '{"trust_domains":{"a":{"keys":[]},"b":{}}}', 'TDB-10']
  ]
  for (const [rule, text, requirement] of refused) t.throws(() => parseBundleMap(text), { code: 'bundle_malformed', requirement }, rule)

  const notes: string[] = []
  parseBundleMap('{"trust_domains":{"a":{"keys":[{}]}}}', note => notes.push(note))
  t.match(notes, [/^a: keys\[0\] is skipped/])

  const bundles = new Map([[other, { ...full, trustDomain: other }], [domain, full], [parseTrustDomain('__proto__'), full]])
  const text = formatBundleMap(bundles)
  t.notMatch(text, 'spiffe_refresh_hint', 'TDB-19 no hints in a map')
  for (const name of bundles.keys()) t.equal(text.split(`"${name}":{"keys"`).length, 2, `TDB-17 ${name} is there once`)
  t.same([...parseBundleMap(text).keys()], ['__proto__', 'example.org', 'other.org'], 'sorted; round trip')
  t.same(parseBundleMap(text).get(domain), { ...full, refreshHintSeconds: undefined })
})

void t.test('no crash whatever comes', async t => {
  const key = fc.record({
    kty: fc.constantFrom('EC', 'RSA', 'OKP', 1, null), use: fc.constantFrom('x509-svid', 'jwt-svid', 'sig', 1),
    kid: fc.constantFrom('a', 'b', '', 1),
    crv: fc.constantFrom('P-256', 'P-384', 'x'), x: fc.base64String(), y: fc.base64String(), n: fc.base64String(),
    e: fc.constantFrom('AQAB', 'AA', 'Aw', ''),
    x5c: fc.oneof(fc.array(fc.base64String()), fc.constant([Buffer.from(ca1).toString('base64')]), fc.string())
  }, { requiredKeys: [] })
  const documents = fc.oneof(
    fc.record({
      keys: fc.array(fc.oneof({ arbitrary: key, weight: 9 }, fc.jsonValue())),
      spiffe_sequence: fc.nat(), spiffe_refresh_hint: fc.jsonValue()
    }, { requiredKeys: ['keys'] }),
    fc.jsonValue()
  ).map(value => JSON.stringify(value))
  fc.assert(fc.property(fc.oneof(documents, fc.string()), text => {
    try {
      const bundle = parseBundleDocument(text, domain)
      t.same(parseBundleDocument(formatBundleDocument(bundle), domain, refuseNotes), bundle, 'round trip')
      parseBundleMap(`{"trust_domains":{"a":${text}}}`)
      return true
    } catch (error) {
      return error instanceof SpiffeError && error.code === 'bundle_malformed'
    }
  }), { numRuns: 500 })
  const certificates = fc.tuple(fc.nat(ca1.length - 1), fc.nat(255)).map(([at, value]) => ca1.with(at, value))
  fc.assert(fc.property(certificates, der => {
    const bundle = read({ keys: [{ kty: 'EC', use: 'x509-svid', x5c: [Buffer.from(der).toString('base64')] }] })
    return bundle.x509Authorities.every(({ certificate }) => Buffer.from(certificate).equals(Buffer.from(der)))
  }), { numRuns: 300 })
})

function refuseNotes (note: string): void {
  throw new Error(note)
}

function read (document: unknown): Bundle {
  return parseBundleDocument(JSON.stringify(document), domain)
}

function x509Key (der: Uint8Array): Json {
  return { ...new X509Certificate(der).publicKey.export({ format: 'jwk' }), use: 'x509-svid', x5c: [Buffer.from(der).toString('base64')] }
}

function jwtKey (publicKey: KeyObject, kid: string): Json {
  return { ...publicKey.export({ format: 'jwk' }), use: 'jwt-svid', kid }
}

function spkiOf (key: KeyObject): Uint8Array {
  return new Uint8Array(key.export({ format: 'der', type: 'spki' }))
}

/** A self-signed certificate made by a foreign library. */
async function createCertificate (options: { ca: boolean, notAfter: string, uri?: string, rsa?: boolean }): Promise<Uint8Array> {
  const algorithm = options.rsa === true
    ? { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256', modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]) }
    : { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: 'O=SPIFFE', notBefore: new Date('2020-01-01T00:00:00Z'), notAfter: new Date(options.notAfter), signingAlgorithm: algorithm, keys,
    extensions: [
      new x509.BasicConstraintsExtension(options.ca, undefined, true),
      new x509.SubjectAlternativeNameExtension([{ type: 'url', value: options.uri ?? 'spiffe://example.org' }])
    ]
  })
  return new Uint8Array(certificate.rawData)
}
