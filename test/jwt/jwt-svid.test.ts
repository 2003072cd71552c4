import { constants, createHmac, createPublicKey, generateKeyPairSync, sign, type KeyObject } from 'node:crypto'
import fc from 'fast-check'
import { decodeProtectedHeader, importSPKI, jwtVerify, SignJWT, UnsecuredJWT } from 'jose'
import t from 'tap'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { checkAudience } from '../../src/jwt/audience.ts'
import { issueJwtSvid, type JwtSvidClaims } from '../../src/jwt/issue-jwt-svid.ts'
import { validateJwtSvid } from '../../src/jwt/validate-jwt-svid.ts'
import { signerOf } from '../../src/x509/private-key-signer.ts'
import { encodePem } from '../../src/x509/pem.ts'
import { anyText, memberIdOf } from '../fakes/arbitraries.ts'
import { createTestAuthority, makeTestKey } from '../fakes/authority.ts'
import { holds } from '../fakes/holds.ts'

const now = new Date('2026-03-01T12:00:00.500Z')
const seconds = Math.floor(now.getTime() / 1000)
const domain = parseTrustDomain('example.org')
const id = parseSpiffeId('spiffe://example.org/web')
const es256 = { alg: 'ES256', kid: 'ES256' }
const good = { sub: id, aud: ['db'], exp: seconds + 300, iat: seconds }

const keys = {
  ES256: makeTestKey(),
  ES384: makeTestKey('ec-p384'),
  ES512: generateKeyPairSync('ec', { namedCurve: 'P-521' }).privateKey,
  RSA: makeTestKey('rsa-2048'),
  'RSA-1024': generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey,
  P256K: generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).privateKey,
  Ed25519: generateKeyPairSync('ed25519').privateKey
}
type KeyName = keyof typeof keys
const bundle = bundleOf(Object.keys(keys) as KeyName[])
const settings = { bundleOf: (name: Bundle['trustDomain']) => name === domain ? bundle : undefined, audience: ['db'], at: now }

void t.test('issue (JWT-SVID §2, §3)', async t => {
  const claims: JwtSvidClaims = { id, audience: ['db', 'cache', 'db'], issuedAt: now, expiresAt: new Date(now.getTime() + 300_000) }
  for (const [type, alg] of [['ec-p256', 'ES256'], ['ec-p384', 'ES384'], ['rsa-2048', 'RS256'], ['rsa-4096', 'RS256']] as const) {
    const signer = signerOf(makeTestKey(type))
    const token = await issueJwtSvid(claims, { keyId: 'key 1', signer })
    t.strictSame(decodeProtectedHeader(token), { alg, kid: 'key 1', typ: 'JWT' }, `JWT-02 JWT-03 AMB-07 the header with ${type}`)
    const publicKey = await importSPKI(encodePem('PUBLIC KEY', signer.publicKey), alg)
    const { payload } = await jwtVerify(token, publicKey, { audience: 'cache', currentDate: now, typ: 'JWT', algorithms: [alg] })
    const expected = { aud: ['db', 'cache'], exp: seconds + 300, iat: seconds, sub: id }
    t.strictSame(payload, expected, `JWT-06 JWT-07 JWT-10 jose verifies it and reads the claims with ${type}`)
    const own = { ...bundle, jwtAuthorities: [{ keyId: 'key 1', publicKey: signer.publicKey, tainted: false }] }
    t.equal(validateJwtSvid(token, { ...settings, bundleOf: () => own }).id, id, `ID-18 JWT-14 our validator accepts it with ${type}`)
  }
  const key = { keyId: 'a', signer: signerOf(keys.ES256) }
  const full = await issueJwtSvid({ ...claims, issuer: 'https://example.org', jti: 'one' }, key)
  t.match(claimsOf(full), { iss: 'https://example.org', jti: 'one' }, 'JWT-13 iss and jti if asked for')
  t.match(decodeProtectedHeader(await issueJwtSvid(claims, { ...key, keyId: 'b' })), { kid: 'b' }, 'the header follows the key ID')
  await t.rejects(issueJwtSvid({ ...claims, id: parseSpiffeId('spiffe://example.org') }, key), { code: 'spiffe_id_not_allowed' }, 'AMB-18 no path')
  await t.rejects(issueJwtSvid({ ...claims, audience: [] }, key), { code: 'argument_invalid' }, 'JWT-07 no audience')
  await t.rejects(issueJwtSvid({ ...claims, audience: ['db', ''] }, key), { code: 'argument_invalid' }, 'JWT-07 an empty audience')
  await t.rejects(issueJwtSvid({ ...claims, expiresAt: claims.issuedAt }, key), { code: 'argument_invalid' }, 'an empty life')
  t.throws(() => checkAudience(Array.from({ length: 65 }, (_, index) => `a${index}`)), { code: 'argument_invalid' }, '65 audiences')
  t.throws(() => checkAudience(['a'.repeat(8193)]), { code: 'argument_invalid' }, 'more than 8 KiB of audience')

  const longId = parseSpiffeId(`spiffe://example.org/${'a'.repeat(2027)}`)
  const rsaKey = { keyId: 'k'.repeat(32), signer: signerOf(makeTestKey('rsa-4096')) }
  const longest = await issueJwtSvid({ ...claims, id: longId, audience: ['a'.repeat(8192)] }, rsaKey)
  t.ok(longest.length <= 16 * 1024, `AMB-27 the longest token is one of ${longest.length} bytes, which validators accept`)
})

void t.test('the header (JWT-SVID §2)', async t => {
  for (const [alg, key] of [
    ['ES256', 'ES256'], ['ES384', 'ES384'], ['ES512', 'ES512'], ['RS256', 'RSA'], ['RS384', 'RSA'], ['RS512', 'RSA'],
    ['PS256', 'RSA'], ['PS384', 'RSA'], ['PS512', 'RSA']
  ] as const) t.equal(validate(await byJose(alg, key)).id, id, `JWT-03 ${alg} by jose is accepted`)

  const hmac = (alg: string) => {
    const input = encode({ alg, kid: 'ES256' }, good)
    return `${input}.${createHmac('sha256', signerOf(keys.ES256).publicKey).update(input).digest('base64url')}`
  }
  const refused: [requirement: string, rule: string, token: string][] = [
    ['JWT-03', 'none', new UnsecuredJWT(good).encode()],
    ['JWT-03', 'none, with a signature', forge({ alg: 'none', kid: 'ES256' })],
    ['JWT-03', 'HS256 with the public key as secret', hmac('HS256')],
    ['JWT-03', 'HS512', hmac('HS512')],
    ['JWT-03', 'EdDSA', forge({ alg: 'EdDSA', kid: 'Ed25519' })],
    ['JWT-03', 'ES256K', forge({ alg: 'ES256K', kid: 'P256K' })],
    ['JWT-03', 'rs256 in lower case', forge({ alg: 'rs256', kid: 'RSA' })],
    ['JWT-03', 'a name that every object has', forge({ alg: 'constructor', kid: 'ES256' })],
    ['JWT-03', 'a number', forge({ alg: 256, kid: 'ES256' })],
    ['JWT-03', 'nothing', forge({ kid: 'ES256' })],
    ['JWT-05', 'wit+jwt', forge({ ...es256, typ: 'wit+jwt' })],
    ['JWT-05', 'at+jwt', forge({ ...es256, typ: 'at+jwt' })],
    ['JWT-05', 'jwt in lower case', forge({ ...es256, typ: 'jwt' })],
    ['JWT-05', 'null', forge({ ...es256, typ: null })],
    ['JWT-04', 'a kid that is no string', forge({ alg: 'ES256', kid: 1 })],
    ['AMB-06', 'crit', forge({ ...es256, crit: ['b64'], b64: true })],
    ['AMB-06', 'an empty crit', forge({ ...es256, crit: [] })]
  ]
  for (const [requirement, rule, token] of refused) {
    t.throws(() => validate(token), { code: 'jwt_svid_malformed', requirement }, `${requirement} ${rule} is refused`)
  }
  const unknownDomain = { bundleOf: () => { throw new Error('looked up') }, audience: ['db'], at: now }
  t.throws(() => validateJwtSvid(forge({ alg: 'none' }), unknownDomain), { code: 'jwt_svid_malformed', requirement: 'JWT-03' },
    'JWT-03 the algorithm is checked before any key is looked up')

  for (const typ of ['JWT', 'JOSE']) t.equal(validate(forge({ ...es256, typ })).id, id, `JWT-05 typ may be ${typ}`)
  t.equal(validate(forge(es256)).id, id, 'JWT-05 typ may be missing')
  const attacker = makeTestKey()
  const jwk = createPublicKey(attacker).export({ format: 'jwk' })
  t.equal(validate(forge({ ...es256, jwk, jku: 'https://b.test', x5c: ['AA=='], x5u: 'https://b.test', other: 1 })).id, id,
    'AMB-06 other members are ignored')
  t.throws(() => validate(forge({ ...es256, jwk }, good, attacker)), { code: 'jwt_svid_invalid', requirement: 'JWT-14' },
    'AMB-06 a key in the header verifies nothing')
})

void t.test('keys (JWT-SVID §2.2, §4)', async t => {
  t.equal(validate(forge(es256)).keyId, 'ES256', 'JWT-04 kid names the key')
  t.equal(validate(forge({ alg: 'ES384' }, good, keys.ES384)).keyId, 'ES384', 'JWT-04 AMB-07 without kid, each key that fits is tried')
  const invalid = (requirement: string) => ({ code: 'jwt_svid_invalid', requirement })
  const unknown = forge({ alg: 'ES256', kid: 'unknown' }, good, keys.ES256)
  t.throws(() => validate(unknown), invalid('AMB-27'), 'AMB-27 an unknown kid: no fallback to other keys')
  t.throws(() => validate(forge({ alg: 'ES256', kid: '' }, good, keys.ES256)), invalid('AMB-27'), 'AMB-27 an empty kid is a kid')
  for (const [alg, kid] of [
    ['ES256', 'ES384'], ['ES384', 'ES256'], ['ES512', 'ES256'], ['RS256', 'ES256'], ['ES256', 'RSA'], ['PS256', 'ES384']
  ] as const) {
    t.throws(() => validate(forge({ alg, kid })), invalid('JWT-15'), `JWT-15 ${alg} with the key ${kid} is refused`)
  }
  t.throws(() => validate(forge({ alg: 'RS256', kid: 'RSA-1024' })), invalid('AMB-27'), 'JWT-15 AMB-24 an RSA key of 1024 bits is refused')
  t.throws(() => validate(forge({ alg: 'ES256', kid: 'P256K' })), invalid('AMB-27'), 'JWT-15 secp256k1 is refused')
  t.throws(() => validate(forge(es256, good, makeTestKey())), invalid('JWT-14'), 'JWT-14 another key')
  const der = sign('sha256', Buffer.from(encode(es256, good)), keys.ES256).toString('base64url')
  t.throws(() => validate(`${encode(es256, good)}.${der}`), invalid('JWT-14'), 'a signature in DER is refused')

  const at = (own: Bundle | undefined) => () => validateJwtSvid(forge(es256), { ...settings, bundleOf: () => own })
  t.throws(at(undefined), invalid('JWT-21'), 'JWT-21 no bundle of that trust domain')
  t.throws(at({ ...bundle, trustDomain: parseTrustDomain('b.test') }), invalid('TDB-03'), 'JWT-21 TDB-03 a bundle of another one')
  t.throws(at({ ...bundle, jwtAuthorities: [] }), invalid('JWT-20'), 'JWT-20 TDB-13 a bundle without JWT keys')
  const tainted = { ...bundle, jwtAuthorities: bundle.jwtAuthorities.map(key => ({ ...key, tainted: true })) }
  t.equal(at(tainted)().id, id, 'a tainted key still verifies')

  const a = await createTestAuthority('a.test', { jwtKeyId: 'same' })
  const b = await createTestAuthority('b.test', { jwtKeyId: 'same' })
  const bundles = new Map([a, b].map(authority => [authority.trustDomain, authority.bundle]))
  const both = { bundleOf: (name: Bundle['trustDomain']) => bundles.get(name), audience: ['db'], at: new Date() }
  t.equal(validateJwtSvid(await b.issueJwt('/web', ['db']), both).id, 'spiffe://b.test/web')
  const crossed = await a.issueJwt('spiffe://b.test/web', ['db'])
  t.throws(() => validateJwtSvid(crossed, both), invalid('JWT-14'), 'ID-20 JWT-21 a key of A signs nothing in B, whatever its key ID')
})

void t.test('claims (JWT-SVID §3)', async t => {
  const token = (changes: Record<string, unknown>) => forge(es256, { ...good, ...changes })
  const refused: [requirement: string, rule: string, changes: Record<string, unknown>][] = [
    ['JWT-06', 'no sub', { sub: undefined }],
    ['JWT-06', 'a sub that is no string', { sub: [id] }],
    ['JWT-06', 'a sub that is no SPIFFE ID', { sub: 'web' }],
    ['JWT-06', 'a sub with a trailing slash', { sub: `${id}/` }],
    ['JWT-06', 'a sub in uppercase', { sub: 'spiffe://EXAMPLE.org/web' }],
    ['JWT-07', 'no aud', { aud: undefined }],
    ['JWT-07', 'an empty list', { aud: [] }],
    ['JWT-07', 'an empty string', { aud: '' }],
    ['JWT-07', 'an empty string in a list', { aud: ['db', ''] }],
    ['JWT-07', 'a number in a list', { aud: ['db', 1] }],
    ['JWT-07', 'an object', { aud: { db: true } }],
    ['JWT-08', 'another audience', { aud: ['cache'] }],
    ['JWT-08', 'a prefix', { aud: ['d'] }],
    ['JWT-08', 'a longer one', { aud: ['db1'] }],
    ['JWT-08', 'another case', { aud: ['DB'] }],
    ['JWT-08', 'a string that contains it', { aud: 'cache db' }],
    ['JWT-10', 'no exp', { exp: undefined }],
    ['JWT-10', 'an exp that is no number', { exp: String(good.exp) }],
    ['JWT-10', 'an exp that is null', { exp: null }],
    ['JWT-10', 'an exp beyond all calendars', { exp: 1e300 }],
    ['JWT-11', 'an exp in the past', { exp: seconds - 1 }],
    ['JWT-11', 'an exp of this second', { exp: seconds }],
    ['JWT-11', 'a negative exp', { exp: -1 }],
    ['JWT-14', 'an nbf in the future', { nbf: seconds + 1 }],
    ['JWT-14', 'an nbf that is no number', { nbf: 'now' }],
    ['JWT-14', 'an iat that is no number', { iat: 'now' }],
    ['JWT-14', 'an iss that is no string', { iss: 1 }],
    ['JWT-14', 'a jti that is no string', { jti: 1 }]
  ]
  for (const [requirement, rule, changes] of refused) {
    t.throws(() => validate(token(changes)), { code: 'jwt_svid_invalid', requirement }, `${requirement} ${rule} is refused`)
  }
  t.equal(validate(token({ aud: 'db' })).id, id, 'JWT-07 AMB-08 aud may be a string')
  t.equal(validate(token({ aud: ['cache', 'db'] })).id, id, 'JWT-08 one of several')
  const either = { ...settings, audience: ['db', 'cache'] }
  t.equal(validateJwtSvid(token({ aud: ['cache'] }), either).id, id, 'JWT-08 for one of the validator\'s own')
  t.throws(() => validateJwtSvid(token({}), { ...settings, audience: [] }), { code: 'jwt_svid_invalid', requirement: 'JWT-08' },
    'JWT-08 a validator without a name accepts nothing')
  t.equal(validate(token({ sub: 'spiffe://example.org' })).id, 'spiffe://example.org', 'AMB-18 a path is left to policy')
  const fraction = validate(token({ nbf: seconds - 1, exp: seconds + 0.75 }))
  t.equal(fraction.expiresAt.getTime(), (seconds + 0.75) * 1000, 'a date may have a fraction')
  const late = token({ exp: seconds - 5, nbf: seconds + 5 })
  t.equal(validateJwtSvid(late, { ...settings, leewaySeconds: 10 }).id, id, 'JWT-11 a small leeway, if asked for')
  const less = { ...settings, leewaySeconds: 5 }
  t.throws(() => validateJwtSvid(late, less), { code: 'jwt_svid_invalid', requirement: 'JWT-11' }, 'and no more')

  const { claims } = validate(token({ roles: ['admin', { deep: true }], big: 12345, 'https://example.org/x': null }))
  t.match(claims, { roles: ['admin', { deep: true }], big: 12345, 'https://example.org/x': null }, 'JWT-13 other claims are handed on')
})

void t.test('the form (JWT-SVID §5.1)', async t => {
  const token = forge(es256)
  const [header, payload, signature] = token.split('.') as [string, string, string]
  const json = { payload, protected: header, signature }
  const refused: [rule: string, token: string][] = [
    ['nothing', ''],
    ['JSON serialization', JSON.stringify({ payload, signatures: [{ protected: header, signature }] })],
    ['flattened JSON serialization', JSON.stringify(json)],
    ['JWE', `${token}.AA.AA`],
    ['two parts', `${header}.${payload}`],
    ['four parts', `${token}.AA`],
    ['an empty signature', `${header}.${payload}.`],
    ['an empty payload', `${header}..${signature}`],
    ['a line break at the end', `${token}\n`],
    ['a space before', ` ${token}`],
    ['a space within', `${header}. ${payload}.${signature}`],
    ['Bearer', `Bearer ${token}`],
    ['padding', `${header}.${payload}.${signature}==`],
    ['standard base64', `${header}.${payload}.${Buffer.from(signature, 'base64url').toString('base64')}`],
    ['stray bits at the end', `${header}.${payload}.${strayBits(signature)}`],
    ['a header that is no object', forgeText('[]', JSON.stringify(good))],
    ['a payload that is no object', forgeText('{"alg":"ES256"}', '"x"')],
    ['a name that is repeated in the header', forgeText('{"alg":"ES256","alg":"none"}', JSON.stringify(good))],
    ['a name that is repeated in the payload', forgeText('{"alg":"ES256"}', `{"sub":"spiffe://b.test/x",${JSON.stringify(good).slice(1)}`)],
    ['a byte order mark', forgeText('{"alg":"ES256"}', `\ufeff${JSON.stringify(good)}`)],
    ['what is no UTF-8', `${header}.${Buffer.from('{"a":"\xff"}', 'latin1').toString('base64url')}.${signature}`],
    ['nesting without end', forgeText('{"alg":"ES256"}', `{"a":${'['.repeat(5000)}`)],
    ['text after the object', `${base64url('{"alg":"ES256"}x')}.${payload}.${signature}`]
  ]
  for (const [rule, text] of refused) {
    t.throws(() => validate(text), { code: 'jwt_svid_malformed', requirement: 'JWT-01' }, `JWT-01 ${rule} is refused`)
  }
  const long = forge(es256, { ...good, pad: 'a'.repeat(12 * 1024) })
  t.ok(long.length > 16 * 1024)
  t.throws(() => validate(long), { code: 'jwt_svid_malformed', requirement: 'AMB-27' }, 'AMB-27 more than 16 KiB is refused')

  const accepted: number[] = []
  for (let index = 0; index < token.length; index++) {
    for (const character of ['A', '_', '.', ' ']) {
      if (token[index] === character) continue
      const changed = token.slice(0, index) + character + token.slice(index + 1)
      if (shownBy(() => validate(changed)) === undefined) accepted.push(index)
    }
  }
  t.strictSame(accepted, [], 'JWT-14 each of its characters counts')
  fc.assert(fc.property(fc.nat(token.length), fc.nat(4), fc.string({ maxLength: 4 }), (at, drop, insert) => {
    const changed = token.slice(0, at) + insert + token.slice(at + drop)
    if (changed !== token && shownBy(() => validate(changed)) === undefined) throw new Error(`accepted: ${changed}`)
  }), { numRuns: 2000 })

  const bad = [
    ...refused.map(([, text]) => text).filter(text => text.length > 40), forge({ alg: 'none' }), forge({ alg: 'ES256', kid: 'x' }),
    token.slice(0, -4), forge(es256, { ...good, exp: 1 }), forge(es256, { ...good, aud: ['other'] })
  ]
  const leaks = bad.filter(text => {
    const shown = shownBy(() => validate(text)) ?? ''
    return shown === '' || text.split('.').some(part => part.length > 8 && shown.includes(part))
  })
  t.strictSame(leaks, [], 'JWT-17 no refusal shows any part of the token')
})

void t.test('any text is refused, any token that is issued is accepted', async t => {
  const isRefused = (text: string) => {
    try {
      validate(text)
      return false
    } catch (error) {
      return error instanceof SpiffeError && /^jwt_svid_(malformed|invalid)$/.test(error.code) && error.requirement !== undefined
    }
  }
  const part = fc.oneof(fc.uint8Array({ maxLength: 40 }), anyText.map(text => Buffer.from(text)), fc.json().map(text => Buffer.from(text)))
    .map(bytes => Buffer.from(bytes).toString('base64url'))
  await holds(t, 'arbitrary text', fc.property(anyText, isRefused))
  await holds(t, 'arbitrary bytes in three parts', fc.property(part, part, part, (...parts) => isRefused(parts.join('.'))))
  const signedAs = (json: string) => forgeText(JSON.stringify(es256), json)
  await holds(t, 'arbitrary claims under a good header, signed', fc.property(fc.json(), json => isRefused(signedAs(json))), 300)

  const audience = fc.array(anyText.filter(text => text !== ''), { minLength: 1, maxLength: 8 })
  const claims = fc.record({ id: memberIdOf('example.org'), audience, lifeSeconds: fc.integer({ min: 2, max: 1e9 }), keyId: anyText })
  const optional = fc.record({ issuer: anyText, jti: anyText }, { requiredKeys: [] })
  const signer = signerOf(keys.ES256)
  const property = fc.asyncProperty(claims, optional, fc.nat(), async ({ id, audience, lifeSeconds, keyId }, more, which) => {
    const expiresAt = new Date((seconds + lifeSeconds) * 1000)
    const token = await issueJwtSvid({ id, audience, issuedAt: now, expiresAt, ...more }, { keyId, signer })
    const own: Bundle = { ...bundle, jwtAuthorities: [{ keyId, publicKey: signer.publicKey, tainted: false }] }
    const chosen = audience[which % audience.length] ?? ''
    const read = validateJwtSvid(token, { bundleOf: name => name === domain ? own : undefined, audience: [chosen], at: now })
    const told = { aud: [...new Set(audience)], exp: seconds + lifeSeconds, iat: seconds, iss: more.issuer, jti: more.jti, sub: id }
    return JSON.stringify([read.id, read.keyId, read.expiresAt]) === JSON.stringify([id, keyId, expiresAt]) &&
      JSON.stringify(read.claims) === JSON.stringify(told)
  })
  await holds(t, 'JWT-06 JWT-07 JWT-10 JWT-14 round trip from issue to validation', property, 300)
})

function validate (token: string) { return validateJwtSvid(token, settings) }

/** Everything a refusal says; `undefined` when there is none. */
function shownBy (attempt: () => unknown): string | undefined {
  try {
    attempt()
    return undefined
  } catch (error) {
    if (!(error instanceof SpiffeError)) throw error
    const cause = error.cause instanceof Error ? `${error.cause.message} ${error.cause.stack}` : ''
    return `${error.message} ${error.stack} ${JSON.stringify(error.details)} ${cause}`
  }
}

function bundleOf (names: readonly KeyName[]): Bundle {
  const jwtAuthorities = names.map(keyId => {
    const publicKey = createPublicKey(keys[keyId]).export({ format: 'der', type: 'spki' })
    return { keyId, publicKey, tainted: false }
  })
  return { trustDomain: domain, x509Authorities: [], jwtAuthorities }
}

/** A token whose header and claims are just these, signed as `alg` says as far as it says anything sensible. */
function forge (header: Readonly<Record<string, unknown>>, claims: object = good, key?: KeyObject): string {
  const named = typeof header.kid === 'string' && header.kid in keys ? keys[header.kid as KeyName] : undefined
  return signed(encode(header, claims), typeof header.alg === 'string' ? header.alg : 'ES256', key ?? named ?? keys.ES256)
}

function forgeText (header: string, payload: string): string {
  return signed(`${base64url(header)}.${base64url(payload)}`, 'ES256', keys.ES256)
}

function signed (input: string, alg: string, key: KeyObject): string {
  const digest = key.asymmetricKeyType === 'ed25519' ? null : `sha${/(384|512)$/.exec(alg)?.[0] ?? '256'}`
  const pss = alg.startsWith('PS') && key.asymmetricKeyType === 'rsa' ? { padding: constants.RSA_PKCS1_PSS_PADDING } : {}
  return `${input}.${sign(digest, Buffer.from(input), { key, dsaEncoding: 'ieee-p1363', ...pss }).toString('base64url')}`
}

async function byJose (alg: string, key: KeyName): Promise<string> {
  return await new SignJWT(good).setProtectedHeader({ alg, kid: key, typ: 'JWT' }).sign(keys[key])
}

function encode (header: object, claims: object): string {
  return `${base64url(JSON.stringify(header))}.${base64url(JSON.stringify(claims))}`
}

function base64url (text: string): string { return Buffer.from(text).toString('base64url') }

function claimsOf (token: string): unknown { return JSON.parse(Buffer.from(token.split('.')[1]!, 'base64url').toString()) }

/** The same octets of an ES256 signature, written with bits at the end that mean nothing. */
function strayBits (signature: string): string {
  const changed = `${signature.slice(0, -1)}${String.fromCharCode(signature.charCodeAt(signature.length - 1) + 1)}`
  if (!Buffer.from(changed, 'base64url').equals(Buffer.from(signature, 'base64url'))) throw new Error('other octets')
  return changed
}
