import 'reflect-metadata'
import { spawnSync } from 'node:child_process'
import { generateKeyPairSync, webcrypto, X509Certificate, type KeyObject } from 'node:crypto'
import * as foreign from '@peculiar/x509'
import fc from 'fast-check'
import t from 'tap'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { createCertificateRequest, parseCertificateRequest } from '../../src/x509/certificate-request.ts'
import { parseCertificate, splitCertificates } from '../../src/x509/certificate.ts'
import { DerReader } from '../../src/x509/der-reader.ts'
import { derTag } from '../../src/x509/der-tag.ts'
import { encodeTime, readTime } from '../../src/x509/der-time.ts'
import { encodeBoolean, encodeDer, encodeNamedBits, encodeOid, encodeSequence, encodeUnsigned } from '../../src/x509/der-writer.ts'
import { emptyName, encodeName } from '../../src/x509/name.ts'
import { oid } from '../../src/x509/oid.ts'
import { decodePem, encodePem } from '../../src/x509/pem.ts'
import { signerOf } from '../../src/x509/private-key-signer.ts'
import { createTestAuthority, makeTestKey } from '../fakes/authority.ts'
import { altNames, basicConstraints, caExtensions, forge, leafExtensions, nameOf, unknownExtension } from './forge-certificate.ts'
import { judgeWithGo, noGo } from './go-judge.ts'
import { noOpenssl } from './openssl-judge.ts'

const derError = { name: 'DerError' }

void t.test('DER', async t => {
  const hex = (text: string) => new DerReader(Buffer.from(text.replaceAll(' ', ''), 'hex'))
  const refused: [rule: string, read: () => unknown][] = [
    ['a length in long form that fits the short one', () => hex('30 81 01 00').enter(derTag.sequence)],
    ['a length with a leading zero', () => hex(`04 82 00 80 ${'00'.repeat(128)}`).read(derTag.octetString)],
    ['an indefinite length', () => hex('30 80 00 00').enter(derTag.sequence)],
    ['a length of five octets', () => hex('04 85 01 00 00 00 00').read(derTag.octetString)],
    ['an element longer than the input', () => hex('04 02 00').read(derTag.octetString)],
    ['an element longer than what encloses it', () => hex('30 03 04 02 00 00').enter(derTag.sequence).read(derTag.octetString)],
    ['a length that is missing', () => hex('04').read(derTag.octetString)],
    ['a tag number above 30', () => hex('1f 81 01 00').readWhole()],
    ['another tag', () => hex('04 00').read(derTag.sequence)],
    ['nothing', () => hex('').readWhole()],
    ['trailing bytes', () => { const reader = hex('04 00 00'); reader.readWhole(); reader.finish() }],
    ['an empty integer', () => hex('02 00').readInteger()],
    ['an integer with a needless zero', () => hex('02 02 00 01').readInteger()],
    ['a negative integer with a needless octet', () => hex('02 02 ff 80').readInteger()],
    ['a small integer that is negative', () => hex('02 01 80').readSmallInteger()],
    ['a small integer that is large', () => hex('02 05 01 00 00 00 00').readSmallInteger()],
    ['a boolean of 01', () => hex('01 01 01').readBoolean()],
    ['a boolean of two octets', () => hex('01 02 ff ff').readBoolean()],
    ['a bit string with unused bits where octets are due', () => hex('03 02 01 00').readOctetsOfBits()],
    ['a bit string with unused bits that are set', () => hex('03 02 01 01').readNamedBits()],
    ['a bit string of nothing', () => hex('03 00').readNamedBits()],
    ['an empty bit string with unused bits', () => hex('03 01 01').readNamedBits()],
    ['an object identifier without end', () => hex('06 02 55 80').readOid()],
    ['an object identifier with a needless octet', () => hex('06 03 55 80 01').readOid()],
    ['an empty object identifier', () => hex('06 00').readOid()]
  ]
  for (const [rule, read] of refused) t.throws(read, derError, `${rule} is refused`)

  for (const year of [1950, 1999, 2049, 2050, 9999]) {
    const time = new Date(`${year}-12-31T23:59:59Z`)
    t.equal(encodeTime(time)[0], year < 2050 ? derTag.utcTime : derTag.generalizedTime, `the form for ${year}`)
    t.strictSame(readTime(new DerReader(encodeTime(time))), time)
  }
  for (const text of ['2602300000Z', '260230000000Z', '2602280000+0100', '260228000000', '260228240000Z', '26022800000.Z']) {
    t.throws(() => readTime(new DerReader(encodeDer(derTag.utcTime, Buffer.from(text)))), derError, `time ${text} is refused`)
  }
  t.throws(() => encodeTime(new Date('1949-12-31T23:59:59Z')), { name: 'RangeError' })
  t.throws(() => encodeTime(new Date(Number.NaN)), { name: 'RangeError' })

  fc.assert(fc.property(fc.uint8Array({ maxLength: 40 }), magnitude => {
    const content = new DerReader(encodeUnsigned(magnitude)).readInteger()
    const value = (bytes: Uint8Array) => BigInt(`0x0${Buffer.from(bytes).toString('hex')}`)
    if (value(content) !== value(magnitude) || content[0]! >= 0x80) throw new Error('another number')
  }))
  fc.assert(fc.property(fc.uniqueArray(fc.nat(31)), bits => {
    const read = new DerReader(encodeNamedBits(bits)).readNamedBits()
    if (read.join(' ') !== bits.toSorted((a, b) => a - b).join(' ')) throw new Error('other bits')
  }))
  fc.assert(fc.property(fc.nat(2), fc.nat(39), fc.array(fc.bigInt(0n, 2n ** 128n), { maxLength: 3 }), (first, second, rest) => {
    const dotted = [first, second, ...rest].join('.')
    if (new DerReader(encodeOid(dotted)).readOid() !== dotted) throw new Error('another object identifier')
  }))
  fc.assert(fc.property(fc.integer({ min: 0, max: 70_000 }), length => {
    const reader = new DerReader(encodeDer(derTag.octetString, Buffer.alloc(length)))
    if (reader.read(derTag.octetString).length !== length || !reader.isDone) throw new Error('another length')
  }), { examples: [[127], [128], [255], [256], [65_535], [65_536]] })
  t.pass('what is written is read back')
})

void t.test('certificates', async t => {
  const authority = await createTestAuthority('example.org')
  const svid = await authority.issue('/web', { dnsNames: ['web.example.org'], serialNumber: Buffer.from('c0ffee', 'hex') })
  const der = svid.chain[0]!
  const two = Buffer.concat([der, authority.certificate.raw])
  t.equal(parseCertificate(der).serialNumber, 'c0ffee')
  t.equal(new X509Certificate(two).serialNumber, 'C0FFEE', 'Node reads the first of two')
  t.throws(() => parseCertificate(two), { code: 'certificate_malformed' }, 'TS-06 trailing bytes are refused')
  t.strictSame(splitCertificates(two).map(part => Buffer.from(part)), [Buffer.from(der), Buffer.from(authority.certificate.raw)],
    'TS-06 AMB-20 certificates back to back are split by their lengths')
  t.strictSame(splitCertificates(new Uint8Array()), [])
  for (const junk of [two.subarray(0, -1), Buffer.concat([der, Buffer.of(0)]), Buffer.from('-----BEGIN')]) {
    t.throws(() => splitCertificates(junk), { code: 'certificate_malformed' }, 'TS-06 what is left over is refused')
  }

  const refused: [rule: string, der: Uint8Array][] = [
    ['nothing', new Uint8Array()],
    ['more than 64 KiB', new Uint8Array(65_537)],
    ['an extension that is there twice', forge({ extensions: { a: unknownExtension(false), b: unknownExtension(true) } }).der],
    ['a URI beyond ASCII', forge({ extensions: { san: altNames([encodeDer(0x86, Buffer.from('spiffe://exämple.org/a'))]) } }).der],
    ['a SAN of no known form', forge({ extensions: { san: altNames([encodeDer(0x89, Buffer.of(1))]) } }).der],
    ['an IP address of 5 bytes', forge({ extensions: { san: altNames([nameOf.ip([1, 2, 3, 4, 5])]) } }).der],
    ['extensions in version 2', forge({ version: 2, extensions: caExtensions() }).der],
    ['version 4', forge({ version: 4 }).der],
    ['a serial number of more than 20 bytes', forge({ serial: Buffer.alloc(22, 1) }).der],
    ['a subject that is no Name', forge({ subject: encodeSequence(encodeSequence()) }).der]
  ]
  for (const [rule, bytes] of refused) t.throws(() => parseCertificate(bytes), { code: 'certificate_malformed' }, `${rule} is refused`)
  const raw = Buffer.from(forge({ extensions: leafExtensions('spiffe://example.org/a') }).der)
  const inner = raw.indexOf('300a06082a8648ce3d040302', 0, 'hex')
  raw[inner + 11] = 3
  t.throws(() => parseCertificate(raw), { code: 'certificate_malformed' }, 'two different signature algorithms are refused')

  const ca = parseCertificate(forge({ extensions: { ...caExtensions(), [oid.basicConstraints]: basicConstraints(true, 3) } }).der)
  t.strictSame([ca.isCa, ca.pathLength, ca.serialNumber], [true, 3, '1'])
  const explicitFalse = encodeSequence(encodeOid(oid.basicConstraints), encodeDer(derTag.octetString, encodeSequence(encodeBoolean(false))))
  t.equal(parseCertificate(forge({ extensions: { a: explicitFalse } }).der).isCa, false, 'cA FALSE may be spelt out')
  const old = parseCertificate(forge({ version: 3 }).der)
  t.strictSame([old.isCa, old.keyUsage, old.extendedKeyUsage, old.uriSans], [false, undefined, undefined, []], 'AMB-21 without extensions')

  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), bytes => { accepts(parseCertificate, bytes) }), { numRuns: 500 })
  for (const parse of [parseCertificate, splitCertificates]) {
    fc.assert(fc.property(mutationsOf(der), bytes => { accepts(parse, bytes) }), { numRuns: 3000 })
  }
  t.pass('whatever comes is read or refused')
})

void t.test('PEM', async t => {
  const der = Buffer.from('a'.repeat(60))
  const text = encodePem('CERTIFICATE', der)
  t.match(text, /^-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/]{64}\n[A-Za-z0-9+/=]+\n-----END CERTIFICATE-----\n$/)
  const bundle = `some text\n${text}\r\n${encodePem('PRIVATE KEY', der)}${text.replaceAll('\n', '\r\n')}`
  t.strictSame(decodePem(bundle, 'CERTIFICATE').map(block => Buffer.from(block)), [der, der], 'other labels and text are passed over')
  t.strictSame(decodePem('', 'CERTIFICATE'), [])
  for (const [rule, broken] of [
    ['no end', text.replace('-----END CERTIFICATE-----', '')],
    ['another end', text.replace('END CERTIFICATE', 'END PRIVATE KEY')],
    ['an end alone', '-----END CERTIFICATE-----\n'],
    ['a beginning in a block', text.replace('\n', '\n-----BEGIN CERTIFICATE-----\n')],
    ['no base64', text.replace('YW', '!!')],
    ['an empty block', '-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n']
  ] as const) t.throws(() => decodePem(broken, 'CERTIFICATE'), { code: 'certificate_malformed' }, `${rule} is refused`)
})

void t.test('certificate requests', async t => {
  const names = { subjectDer: encodeName([[oid.country, 'DE'], [oid.organization, 'Büro']]), uriSans: ['spiffe://example.org/web'], dnsSans: ['a.b', '*.c.d'] }
  const own = (['ec-p256', 'ec-p384', 'rsa-2048', 'rsa-4096'] as const).map(type => {
    const key = makeTestKey(type)
    const der = createCertificateRequest(key, names)
    const request = parseCertificateRequest(der)
    t.equal(Buffer.compare(request.publicKey, signerOf(key).publicKey), 0, `the key of a request with ${type}`)
    t.strictSame([request.uriSans, request.dnsSans], [names.uriSans, names.dnsSans], 'its names')
    t.equal(Buffer.compare(request.subjectDer, names.subjectDer), 0, 'its subject')
    return der
  })
  const bare = createCertificateRequest(makeTestKey())
  t.strictSame(parseCertificateRequest(bare).uriSans, [])
  t.equal(Buffer.compare(parseCertificateRequest(bare).subjectDer, emptyName), 0, 'no names at all')

  await t.test('Go reads them', { skip: noGo }, async t => {
    const { requests } = judgeWithGo([], [...own, bare])
    for (const request of requests.slice(0, -1)) {
      t.strictSame(request, { uris: names.uriSans, dnsNames: names.dnsSans, subject: 'O=Büro,C=DE' })
    }
    t.strictSame(requests.at(-1), { uris: [], dnsNames: [], subject: '' })
  })
  await t.test('openssl makes them', { skip: noOpenssl }, async t => {
    const made = (...flags: readonly string[]) => {
      const always = ['req', '-new', '-nodes', '-keyout', '/dev/null', '-outform', 'der']
      const { status, stdout, stderr } = spawnSync('openssl', [...always, ...flags])
      t.equal(status, 0, stderr.toString())
      return stdout
    }
    const san = ['-addext', 'subjectAltName=URI:spiffe://example.org/web,DNS:a.b,email:a@b', '-addext', 'keyUsage=critical,digitalSignature']
    for (const key of [['rsa:2048'], ['rsa:3072', '-sha384'], curve('P-256'), [...curve('P-521'), '-sha512']]) {
      const request = parseCertificateRequest(made('-newkey', ...key, '-subj', '/CN=web', ...san))
      t.strictSame([request.uriSans, request.dnsSans], [['spiffe://example.org/web'], ['a.b']], key.join(' '))
    }
    const pss = made('-newkey', 'rsa:2048', '-subj', '/', '-sigopt', 'rsa_padding_mode:pss', '-sigopt', 'rsa_pss_saltlen:32')
    t.strictSame(parseCertificateRequest(pss).uriSans, [], 'RSA-PSS')
    for (const [code, ...key] of [
      ['key_unsupported', 'rsa:1024'],
      ['key_unsupported', 'ed25519'],
      ['key_unsupported', ...curve('secp224r1')],
      ['key_unsupported', ...curve('secp256k1')],
      ['csr_malformed', 'rsa:2048', '-sha1'],
      ['csr_malformed', 'rsa:2048', '-md5']
    ] as const) {
      const request = made('-newkey', ...key, '-subj', '/')
      t.throws(() => parseCertificateRequest(request), { code }, `AMB-24 ${key.join(' ')} is refused`)
    }
  })
  await t.test('@peculiar/x509 makes them', async t => {
    const algorithm = { name: 'ECDSA', namedCurve: 'P-384', hash: 'SHA-384' }
    const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
    const made = await foreign.Pkcs10CertificateRequestGenerator.create({
      name: 'CN=web', keys, signingAlgorithm: algorithm,
      extensions: [new foreign.SubjectAlternativeNameExtension([{ type: 'url', value: 'spiffe://example.org/web' }])]
    })
    t.strictSame(parseCertificateRequest(new Uint8Array(made.rawData)).uriSans, ['spiffe://example.org/web'])
  })

  const huge = generateKeyPairSync('rsa', { modulusLength: 2048, publicExponent: 3 }).privateKey
  t.ok(parseCertificateRequest(createCertificateRequest(huge)), 'an exponent of 3')
  t.throws(() => parseCertificateRequest(new Uint8Array(65_537)), { code: 'csr_malformed' }, 'more than 64 KiB')
  t.throws(() => parseCertificateRequest(Buffer.concat([bare, Buffer.of(0)])), { code: 'csr_malformed' }, 'trailing bytes')
  t.throws(() => parseCertificateRequest(swapKey(bare, makeTestKey())), { code: 'csr_malformed' }, 'a key that its sender does not hold')
  t.throws(() => parseCertificateRequest(offCurve(bare)), { code: 'csr_malformed' }, 'a point that is not on its curve')

  const accepted: number[] = []
  for (let index = 0; index < own[0]!.length; index++) {
    const changed = Buffer.from(own[0]!)
    changed[index]! ^= 1 << (index % 8)
    if (accepts(parseCertificateRequest, changed)) accepted.push(index)
  }
  t.strictSame(accepted, [], 'each of its bytes counts')
  fc.assert(fc.property(mutationsOf(own[0]!), bytes => {
    if (accepts(parseCertificateRequest, bytes) && Buffer.compare(bytes, own[0]!) !== 0) throw new Error('a changed request is accepted')
  }), { numRuns: 2000 })
})

/** Whether the bytes were accepted; throws on what is no refusal. */
function accepts (parse: (bytes: Uint8Array) => unknown, bytes: Uint8Array): boolean {
  try {
    parse(bytes)
    return true
  } catch (error) {
    if (error instanceof SpiffeError) return false
    throw error
  }
}

/** The bytes with a few of them changed, inserted or removed. */
function mutationsOf (bytes: Uint8Array): fc.Arbitrary<Uint8Array> {
  const edit = fc.record({ at: fc.nat(bytes.length - 1), drop: fc.nat(3), insert: fc.uint8Array({ maxLength: 3 }) })
  return fc.array(edit, { minLength: 1, maxLength: 3 }).map(edits => {
    let changed = Buffer.from(bytes)
    for (const { at, drop, insert } of edits) changed = Buffer.concat([changed.subarray(0, at), insert, changed.subarray(at + drop)])
    return changed
  })
}

/** Flags of `openssl req -newkey`. */
function curve (name: string): string[] { return ['ec', '-pkeyopt', `ec_paramgen_curve:${name}`] }

/** The same request for another P-256 key. */
function swapKey (request: Uint8Array, key: KeyObject): Uint8Array {
  const swapped = Buffer.from(request)
  const start = swapped.indexOf('3059301306072a8648ce3d0201', 0, 'hex')
  swapped.set(signerOf(key).publicKey, start)
  return swapped
}

function offCurve (request: Uint8Array): Uint8Array {
  const changed = Buffer.from(request)
  const start = changed.indexOf('3059301306072a8648ce3d0201', 0, 'hex')
  changed[start + 90]! ^= 1
  return changed
}
