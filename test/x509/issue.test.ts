import 'reflect-metadata'
import { createHash, createPublicKey, generateKeyPairSync, X509Certificate } from 'node:crypto'
import * as foreign from '@peculiar/x509'
import fc from 'fast-check'
import t from 'tap'
import { parseSpiffeId, pathOf } from '../../src/spiffe/spiffe-id.ts'
import { decodeBundle } from '../../src/wire/bundle-codec.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { svidService } from '../../src/wire/generated/server-svid.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { createCertificateRequest } from '../../src/x509/certificate-request.ts'
import type { KeyType } from '../../src/x509/key-type.ts'
import { prepareLeafIssuer, type LeafRequest } from '../../src/x509/leaf-issuer.ts'
import { emptyName, encodeName } from '../../src/x509/name.ts'
import { oid } from '../../src/x509/oid.ts'
import { signerOf } from '../../src/x509/private-key-signer.ts'
import { verifyX509Svid } from '../../src/x509/verify-svid.ts'
import { attest, createJoinToken, fetchBundle, openServerChannel } from '../fakes/agent-client.ts'
import { createTestAuthority, makeTestKey, type TestAuthority } from '../fakes/authority.ts'
import { ManualClock } from '../fakes/clock.ts'
import { startTestServer } from '../fakes/server.ts'
import { dnsNames, memberIdOf } from '../fakes/arbitraries.ts'
import { holds } from '../fakes/holds.ts'
import { judgeWithGo, noGo } from './go-judge.ts'
import { describeByOpenssl, faultsByOpenssl, noOpenssl } from './openssl-judge.ts'

const start = new Date('2026-03-01T00:00:00Z')
const ends = new Date('2026-03-02T00:00:00Z')
const noon = new Date('2026-03-01T12:00:00Z')
const id = parseSpiffeId('spiffe://example.org/ns/web/sa/default')
/** In this order. */
const leafExtensions = [
  oid.keyUsage, oid.extendedKeyUsage, oid.basicConstraints, oid.subjectKeyIdentifier, oid.authorityKeyIdentifier, oid.subjectAltName
]
const longId = parseSpiffeId(`spiffe://example.org/${'a'.repeat(2048 - 21)}`)

interface Specimen {
  readonly name: string
  readonly authority: Pick<TestAuthority, 'certificate' | 'bundle' | 'bundleOf'>
  readonly request: LeafRequest
  /** Distinguished name as Go writes it: the last part first. */
  readonly subject: string
  readonly chain: readonly Uint8Array[]
}

const main = await createTestAuthority('example.org', { notBefore: start, notAfter: new Date('2060-01-01T00:00:00Z') })
const specimens = [...await makeSpecimens(), await makeServerSpecimen()]

void t.test('what is issued is what was asked for, in our own eyes', async t => {
  for (const { name, authority, request, chain } of specimens) {
    const leaf = parseCertificate(chain[0]!)
    const { critical, ...facts } = leaf
    t.strictSame(leaf.uriSans, [request.id], `X509-01 ID-18 one URI SAN, in the signed part: ${name}`)
    t.strictSame(leaf.dnsSans, request.dnsNames, `X509-03 DNS names: ${name}`)
    t.equal(Buffer.compare(leaf.publicKey, request.publicKey), 0, `ID-18 the key is in the signed part: ${name}`)
    t.strictSame([leaf.notBefore, leaf.notAfter], [request.notBefore, request.notAfter], `validity: ${name}`)
    t.strictSame([...facts.keyUsage ?? []], ['digitalSignature', 'keyEncipherment', 'keyAgreement'], `X509-15 X509-16 key usage: ${name}`)
    t.strictSame([...facts.extendedKeyUsage ?? []], [oid.serverAuth, oid.clientAuth], `X509-18 both purposes: ${name}`)
    t.equal(facts.isCa, false, `X509-11 cA is false: ${name}`)
    t.strictSame(facts.authorityKeyId, authority.certificate.subjectKeyId, `authority key id: ${name}`)
    t.equal(critical.has(oid.keyUsage) && critical.has(oid.basicConstraints), true, `X509-13 key usage is critical: ${name}`)
    t.equal(critical.has(oid.subjectAltName), leaf.subjectDer.length === 2, `X509-05 SAN is critical if the subject is empty: ${name}`)
    t.equal(verifyX509Svid(chain, { bundleOf: authority.bundleOf, at: noon }).id, request.id, `X509-20 our validator accepts it: ${name}`)
  }
})

void t.test('any identity that may be issued is read back as it was asked for', async t => {
  const authority = await createTestAuthority('example.org', { notBefore: start, notAfter: ends })
  const issuer = prepareLeafIssuer(authority.certificate, authority.signer)
  const { publicKey } = signerOf(makeTestKey())
  const serialNumber = fc.uint8Array({ minLength: 1, maxLength: 20 }).filter(bytes => bytes.some(byte => byte !== 0) && bytes[0]! < 0x80)
  const second = fc.integer({ min: 0, max: 86_399 }).map(seconds => new Date(start.getTime() + seconds * 1000))
  const request = fc.record({ id: memberIdOf('example.org'), dnsNames, serialNumber, notBefore: second })
  const issuerKey = createPublicKey({ key: Buffer.from(authority.certificate.publicKey), format: 'der', type: 'spki' })
  const readBack = fc.asyncProperty(request, async request => {
    const der = await issuer.issue({ ...request, publicKey, notAfter: ends })
    const { id, leaf } = verifyX509Svid([der], { bundleOf: authority.bundleOf, at: request.notBefore })
    const foreign = new X509Certificate(der)
    const names = [...request.dnsNames.map(name => `DNS:${name}`), `URI:${request.id}`]
    const serial = Buffer.from(request.serialNumber).toString('hex').replace(/^0+/, '')
    const ours = [id, leaf.uriSans, leaf.dnsSans, leaf.notBefore, leaf.notAfter, leaf.serialNumber]
    return JSON.stringify(ours) === JSON.stringify([request.id, [request.id], request.dnsNames, request.notBefore, ends, serial]) &&
      JSON.stringify(foreign.subjectAltName?.split(', ').toSorted()) === JSON.stringify(names.toSorted()) &&
      foreign.serialNumber.replace(/^0+/, '').toLowerCase() === serial && foreign.verify(issuerKey)
  })
  await holds(t, 'X509-01 X509-03 ID-18 round trip from issue to validation, in our eyes and in Node\'s', readBack, 500)
})

void t.test('openssl judges', { skip: noOpenssl }, async t => {
  for (const { name, authority, chain } of specimens) {
    const root = authority.bundle.x509Authorities[0]!.certificate
    t.equal(faultsByOpenssl(chain, root, noon), '', `X509-19 openssl verify -x509_strict as client and server: ${name}`)
  }
  const byName = new Map(specimens.map(specimen => [specimen.name, specimen]))
  const plain = byName.get('ec-p256 for ec-p256')!
  const text = describeByOpenssl(plain.chain[0]!)
  for (const [rule, part] of [
    ['X509-13 X509-15', 'X509v3 Key Usage: critical Digital Signature, Key Encipherment, Key Agreement X509v3'],
    ['X509-18', 'X509v3 Extended Key Usage: TLS Web Server Authentication, TLS Web Client Authentication X509v3'],
    ['X509-11', 'X509v3 Basic Constraints: critical CA:FALSE X509v3'],
    ['X509-01', `X509v3 Subject Alternative Name: URI:${id} Signature`],
    ['serial number', ' Serial Number: 01:23:45:67:89:ab:cd:ef:01:23:45:67:89:ab:cd:ef '],
    ['default subject', 'Subject: O=SPIRE,C=US Subject Public Key Info'],
    ['validity', 'Not Before: Mar 1 00:00:00 2026 GMT Not After : Mar 2 00:00:00 2026 GMT'],
    ['version', 'Version: 3 (0x2)']
  ] as const) t.ok(text.includes(part), `${rule}: ${part}`)
  const empty = describeByOpenssl(byName.get('empty subject')!.chain[0]!)
  t.ok(empty.includes('X509v3 Subject Alternative Name: critical URI:'), 'X509-05 SAN is critical')
  t.match(empty, /Subject: Subject Public Key Info/, 'X509-05 the subject is empty')
  const late = describeByOpenssl(byName.get('beyond 2049')!.chain[0]!)
  t.ok(late.includes('Not Before: Mar 1 00:00:00 2026 GMT Not After : Jan 1 00:00:00 2050 GMT'), 'GeneralizedTime from 2050 on')

  const ca = describeByOpenssl(plain.authority.certificate.raw)
  const subject = /Subject: serialNumber=(\d+),O=SPIFFE,C=US /.exec(ca)
  const serial = / Serial Number: ([0-9a-f:]+) /.exec(ca)?.[1]?.replaceAll(':', '')
  t.equal(subject?.[1], BigInt(`0x${serial}`).toString(), 'the CA\'s subject has its serial number in decimal')
  for (const [rule, part] of [
    ['X509-13 X509-14 X509-17', 'X509v3 Key Usage: critical Certificate Sign, CRL Sign X509v3'],
    ['X509-07 X509-11', 'X509v3 Basic Constraints: critical CA:TRUE X509v3'],
    ['X509-08 X509-09 ID-15 ID-16', 'X509v3 Subject Alternative Name: URI:spiffe://example.org Signature']
  ] as const) t.ok(ca.includes(part), `${rule}: ${part}`)
  t.notOk(/Extended Key Usage|Name Constraints/.test(ca), 'X509-18 X509-12 the CA has neither EKU nor name constraints')
  const root = plain.authority.certificate.raw
  t.equal(faultsByOpenssl([root], root, noon, ['crlsign']), '', 'ID-17 X509-24 the CA is self-signed')
  const self = new X509Certificate(root)
  t.ok(self.verify(self.publicKey), 'ID-17 X509-24 with its own key')
})

void t.test('Go\'s crypto/x509 judges', { skip: noGo }, async t => {
  const { cases } = judgeWithGo(specimens.map(({ chain, authority }) =>
    ({ chain, roots: authority.bundle.x509Authorities.map(({ certificate }) => certificate), at: noon })))
  for (const [index, { name, authority, request, subject, chain }] of specimens.entries()) {
    const seen = cases[index]!
    t.strictSame([seen.error, seen.verifyError], [undefined, undefined], `X509-19 accepted: ${name}`)
    t.strictSame({
      uris: seen.uris, dnsNames: seen.dnsNames, keyUsage: seen.keyUsage, extKeyUsage: seen.extKeyUsage,
      critical: seen.critical, extensions: seen.extensions, subject: seen.subject,
      isCa: seen.isCa, hasBasic: seen.hasBasicConstraints,
      notBefore: seen.notBefore, notAfter: seen.notAfter, unhandled: seen.unhandled, samePublicKey: seen.samePublicKey,
      subjectKeyId: seen.subjectKeyId, authorityKeyId: seen.authorityKeyId
    }, {
      uris: [request.id],
      dnsNames: request.dnsNames,
      // digitalSignature 1, keyEncipherment 4, keyAgreement 16; serverAuth 1, clientAuth 2.
      keyUsage: 1 | 4 | 16,
      extKeyUsage: [1, 2],
      critical: [oid.keyUsage, oid.basicConstraints, ...subject === '' ? [oid.subjectAltName] : []],
      extensions: leafExtensions,
      subject,
      isCa: false,
      hasBasic: true,
      notBefore: request.notBefore.getTime() / 1000,
      notAfter: request.notAfter.getTime() / 1000,
      unhandled: 0,
      samePublicKey: true,
      subjectKeyId: sha1OfKeyBits(request.publicKey),
      authorityKeyId: sha1OfKeyBits(authority.certificate.publicKey)
    }, `X509-01 X509-05 X509-11 X509-13 X509-15 X509-18 profile: ${name}`)
    t.equal(seen.serial, parseCertificate(chain[0]!).serialNumber, `serial number: ${name}`)
  }
  const strangers = await createTestAuthority('example.org', { notBefore: start, notAfter: ends })
  const [refused] = judgeWithGo([{ chain: specimens[0]!.chain, roots: [strangers.certificate.raw], at: noon }]).cases
  t.match(refused?.verifyError, /unknown authority/, 'the judge does refuse what another CA signed')
})

void t.test('the judges see a signing certificate', { skip: noGo }, async t => {
  const authorities = [...new Set(specimens.map(specimen => specimen.authority))]
  const { cases } = judgeWithGo(authorities.map(({ certificate, bundle }) =>
    ({ chain: [certificate.raw], roots: bundle.x509Authorities.map(authority => authority.certificate), at: noon })))
  for (const [index, { certificate }] of authorities.entries()) {
    const seen = cases[index]!
    const issuer = certificate.authorityKeyId === undefined ? [] : [oid.authorityKeyIdentifier]
    const name = `${certificate.publicKey.length} bytes of key${issuer.length > 0 ? ', an intermediate' : ''}, number ${index}`
    t.strictSame([seen.error, seen.verifyError], [undefined, undefined], `X509-19 accepted: ${name}`)
    t.strictSame({
      uris: seen.uris, dnsNames: seen.dnsNames, keyUsage: seen.keyUsage, extKeyUsage: seen.extKeyUsage, isCa: seen.isCa,
      hasBasic: seen.hasBasicConstraints, maxPathLen: seen.maxPathLen, critical: seen.critical, extensions: seen.extensions,
      unhandled: seen.unhandled, subjectKeyId: seen.subjectKeyId
    }, {
      uris: ['spiffe://example.org'],
      dnsNames: [],
      // keyCertSign 32, cRLSign 64.
      keyUsage: 32 | 64,
      extKeyUsage: [],
      isCa: true,
      hasBasic: true,
      maxPathLen: issuer.length > 0 ? 0 : -1,
      critical: [oid.keyUsage, oid.basicConstraints],
      extensions: [oid.keyUsage, oid.basicConstraints, oid.subjectKeyIdentifier, ...issuer, oid.subjectAltName],
      unhandled: 0,
      subjectKeyId: sha1OfKeyBits(certificate.publicKey)
    }, `X509-07 X509-08 X509-09 X509-11 X509-12 X509-13 X509-14 X509-17 X509-18 ID-16 profile in Go's eyes: ${name}`)

    const foreignView = new foreign.X509Certificate(Buffer.from(certificate.raw))
    const basic = foreignView.getExtension(foreign.BasicConstraintsExtension)
    const usage = foreignView.getExtension(foreign.KeyUsagesExtension)
    t.strictSame({
      names: foreignView.getExtension(foreign.SubjectAlternativeNameExtension)?.names.toJSON(),
      usage: [usage?.usages as number | undefined, usage?.critical],
      basic: [basic?.ca, basic?.pathLength, basic?.critical],
      extensions: Array.from(foreignView.extensions, ({ type }) => type)
    }, {
      names: [{ type: 'url', value: 'spiffe://example.org' }],
      usage: [foreign.KeyUsageFlags.keyCertSign | foreign.KeyUsageFlags.cRLSign, true],
      basic: [true, issuer.length > 0 ? 0 : undefined, true],
      extensions: seen.extensions
    }, `X509-07 X509-08 X509-11 X509-13 X509-14 the same in the eyes of @peculiar/x509: ${name}`)
  }
  t.ok(authorities.length >= 6, 'every type of key, an intermediate, and a server\'s own')
})

void t.test('@peculiar/x509 judges', async t => {
  const { digitalSignature, keyEncipherment, keyAgreement } = foreign.KeyUsageFlags
  const usages: number = digitalSignature | keyEncipherment | keyAgreement
  for (const { name, authority, request, chain } of specimens) {
    const leaf = new foreign.X509Certificate(Buffer.from(chain[0]!))
    const issuer = new foreign.X509Certificate(Buffer.from(authority.certificate.raw))
    t.ok(await leaf.verify({ publicKey: await issuer.publicKey.export(), signatureOnly: true }), `signature: ${name}`)
    t.strictSame(leaf.getExtension(foreign.SubjectAlternativeNameExtension)?.names.toJSON(),
      [{ type: 'url', value: request.id }, ...request.dnsNames.map(value => ({ type: 'dns', value }))], `X509-01 names: ${name}`)
    t.equal(leaf.getExtension(foreign.KeyUsagesExtension)?.usages, usages, `X509-15 key usage: ${name}`)
    t.equal(leaf.getExtension(foreign.KeyUsagesExtension)?.critical, true, `X509-13 it is critical: ${name}`)
    const purposes = leaf.getExtension(foreign.ExtendedKeyUsageExtension)?.usages ?? []
    t.strictSame([...purposes], [oid.serverAuth, oid.clientAuth], `X509-18 purposes: ${name}`)
    t.equal(leaf.getExtension(foreign.BasicConstraintsExtension)?.ca, false, `X509-11 cA: ${name}`)
    t.equal(leaf.getExtension(foreign.SubjectKeyIdentifierExtension)?.keyId, sha1OfKeyBits(request.publicKey), `subject key id: ${name}`)
    const issuerKeyId = sha1OfKeyBits(authority.certificate.publicKey)
    t.equal(leaf.getExtension(foreign.AuthorityKeyIdentifierExtension)?.keyId, issuerKeyId, `authority key id: ${name}`)
    t.strictSame(Array.from(leaf.extensions, ({ type }) => type), leafExtensions, `nothing else: ${name}`)
  }
})

void t.test('serial numbers', async t => {
  const { certificate, signer } = main
  const issuer = prepareLeafIssuer(certificate, signer)
  const serialOf = async (serialNumber?: Uint8Array) =>
    parseCertificate(await issuer.issue({ ...requestOf(), ...serialNumber === undefined ? {} : { serialNumber } })).serialNumber
  t.equal(await serialOf(Buffer.from('00ff', 'hex')), 'ff', 'leading zeros go')
  t.equal(await serialOf(Buffer.from('ff'.repeat(16), 'hex')), 'ff'.repeat(16), 'a high bit does not make it negative')
  t.equal(await serialOf(Buffer.from('ff'.repeat(19), 'hex')), 'ff'.repeat(19), '19 bytes and a sign')
  await t.rejects(serialOf(Buffer.alloc(16)), { code: 'argument_invalid' }, 'zero')
  await t.rejects(serialOf(Buffer.from('ff'.repeat(20), 'hex')), { code: 'argument_invalid' }, '21 bytes with the sign')
  const random = await Promise.all(Array.from({ length: 200 }, () => serialOf()))
  t.equal(new Set(random).size, 200, 'random ones differ')
  t.ok(random.every(serial => serial.length <= 32) && random.some(serial => serial.length === 32), '128 bits')
})

void t.test('what is not issued', async t => {
  const authority = main
  const issuer = prepareLeafIssuer(authority.certificate, authority.signer)
  const p224 = createPublicKey(generateKeyPairSync('ec', { namedCurve: 'secp224r1' }).privateKey).export({ format: 'der', type: 'spki' })
  const refused: [rule: string, code: string, change: Partial<LeafRequest>][] = [
    ['X509-04 an ID without a path', 'spiffe_id_not_allowed', { id: parseSpiffeId('spiffe://example.org') }],
    ['ID-20 an ID of another trust domain than the issuer\'s', 'spiffe_id_not_allowed', { id: parseSpiffeId('spiffe://b.test/web') }],
    ['a life beyond the issuer\'s', 'argument_invalid', { notAfter: new Date(authority.certificate.notAfter.getTime() + 1000) }],
    ['a life that is empty', 'argument_invalid', { notAfter: start }],
    ['P-224', 'key_unsupported', { publicKey: p224 }],
    ['junk for a key', 'key_unsupported', { publicKey: Buffer.from('junk') }],
    ['junk for a subject', 'argument_invalid', { subject: Buffer.from('junk') }],
    ['a DNS name with a line break', 'argument_invalid', { dnsNames: ['a\nb'] }],
    ['an empty DNS name', 'argument_invalid', { dnsNames: [''] }],
    ['a DNS name beyond ASCII', 'argument_invalid', { dnsNames: ['ä.example.org'] }]
  ]
  for (const [rule, code, change] of refused) {
    await t.rejects(issuer.issue({ ...requestOf(), ...change }), { code }, rule)
    t.throws(() => issuer.issueSync?.({ ...requestOf(), ...change }), { code }, `${rule}, at once`)
  }
  const leaf = parseCertificate(specimens[0]!.chain[0]!)
  t.throws(() => prepareLeafIssuer(leaf, authority.signer), /no CA certificate/, 'X509-06 a leaf issues nothing')
  t.throws(() => prepareLeafIssuer(authority.certificate, signerOf(makeTestKey())), /another key/, 'nor does another key')
  const remote = prepareLeafIssuer(authority.certificate, {
    type: 'ec-p256', publicKey: authority.signer.publicKey, sign: (data, encoding) => authority.signer.sign(data, encoding)
  })
  t.notOk('issueSync' in remote, 'a remote key does not sign at once')
  t.equal(parseCertificate(await remote.issue(requestOf())).uriSans[0], id)
})

function requestOf (keyType: KeyType = 'ec-p256'): LeafRequest {
  return { id, publicKey: signerOf(makeTestKey(keyType)).publicKey, dnsNames: [], notBefore: start, notAfter: ends }
}

/** Every type of CA key with every type of leaf key, and every shape of leaf. */
async function makeSpecimens (): Promise<Specimen[]> {
  const validity = { notBefore: start, notAfter: new Date('2060-01-01T00:00:00Z') }
  const list: Specimen[] = []
  const add = async (
    name: string, authority: TestAuthority, change: Partial<LeafRequest> = {}, { sync = false, subject = 'O=SPIRE,C=US' } = {}
  ) => {
    const request = { ...requestOf(), ...change }
    const issuer = prepareLeafIssuer(authority.certificate, authority.signer)
    const leaf = sync ? issuer.issueSync!(request) : await issuer.issue(request)
    list.push({ name, authority, request, subject, chain: [leaf, ...authority.intermediates] })
  }
  const serialNumber = Buffer.from('0123456789abcdef0123456789abcdef', 'hex')
  await add('ec-p256 for ec-p256', main, { serialNumber })
  for (const keyType of ['ec-p384', 'rsa-2048', 'rsa-4096'] as const) {
    const authority = await createTestAuthority('example.org', { ...validity, keyType })
    await add(`${keyType} for ec-p256`, authority)
    await add(`${keyType} for ec-p256, at once`, authority, {}, { sync: true })
    await add(`ec-p256 for ${keyType}`, main, requestOf(keyType))
  }
  await add('at once', main, {}, { sync: true })
  await add('DNS names', main, { dnsNames: ['web.example.org', '*.example.org', 'xn--bcher-kva.example'] },
    { subject: 'CN=web.example.org,O=SPIRE,C=US' })
  await add('a DNS name too long for a CN', main, { dnsNames: [`${'a'.repeat(60)}.${'b'.repeat(60)}.example.org`] })
  await add('empty subject', main, { subject: emptyName, dnsNames: ['web.example.org'] }, { subject: '' })
  await add('subject of the request', main, { subject: encodeName([[oid.country, 'DE'], [oid.commonName, 'Büro & Söhne']]) },
    { subject: 'CN=Büro & Söhne,C=DE' })
  await add('the longest ID', main, { id: longId })
  await add('beyond 2049', main, { notAfter: new Date('2050-01-01T00:00:00Z') })
  const middle = await createTestAuthority('example.org', { ...validity, issuer: main, subject: { commonName: 'middle' }, pathLength: 0 })
  await add('by an intermediate', middle)
  return list
}

/** What a whole server signs for an agent: its own CA, its own defaults, the entry's names. */
async function makeServerSpecimen (): Promise<Specimen> {
  await using server = await startTestServer({ clock: new ManualClock(noon) })
  const token = await createJoinToken(server)
  await using agent = openServerChannel(server, await attest(server, token))
  await server.admin.client(entryService).batchCreateEntry({ entries: [{
    id: 'web',
    spiffeId: { trustDomain: 'example.org', path: pathOf(id) },
    parentId: { trustDomain: 'example.org', path: `/spire/agent/join_token/${token}` },
    selectors: [{ type: 'unix', value: 'uid:1' }],
    dnsNames: ['web.example.org', 'db.example.org'],
    x509SvidTtl: 600
  }] })
  const key = makeTestKey()
  const { results } = await agent.client(svidService).batchNewX509SVID({ params: [{ entryId: 'web', csr: createCertificateRequest(key) }] })
  const bundle = decodeBundle(await fetchBundle(server))
  return {
    name: 'by a server, through BatchNewX509SVID',
    authority: { certificate: parseCertificate(bundle.x509Authorities[0]!.certificate), bundle, bundleOf: () => bundle },
    request: {
      id,
      publicKey: signerOf(key).publicKey,
      dnsNames: ['web.example.org', 'db.example.org'],
      notBefore: new Date(noon.getTime() - 10_000),
      notAfter: new Date(noon.getTime() + 600_000)
    },
    subject: 'CN=web.example.org,O=SPIRE,C=US',
    chain: results[0]?.svid?.certChain ?? []
  }
}

function sha1OfKeyBits (spki: Uint8Array): string {
  // The key's octets end the SubjectPublicKeyInfo: all of an EC point, or the PKCS#1 form of an RSA key.
  const key = createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' })
  const bits = key.asymmetricKeyType === 'rsa'
    ? key.export({ format: 'der', type: 'pkcs1' })
    : Buffer.from(spki).subarray(-(key.asymmetricKeyDetails?.namedCurve === 'prime256v1' ? 65 : 97))
  return createHash('sha1').update(bits).digest('hex')
}
