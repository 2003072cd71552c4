import { constants, createHmac, createPublicKey, timingSafeEqual, verify, X509Certificate, type KeyObject,
  type VerifyKeyObjectInput } from 'node:crypto'
import type { RegoObject, RegoValue } from '../rego-value.ts'
import { NoValue, numberOf, objectOf, textOf, type Builtin } from './operand.ts'

interface Token { readonly header: RegoObject, readonly payload: string, readonly signed: string, readonly signature: Buffer }
interface Key { readonly key: KeyObject, readonly kid: string | undefined, readonly alg: string | undefined }

const curves: Readonly<Record<string, string>> = { ES256: 'prime256v1', ES384: 'secp384r1', ES512: 'secp521r1' }
const asymmetric = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA'] as const
const symmetric = ['HS256', 'HS384', 'HS512'] as const
const constraintNames = new Set(['cert', 'secret', 'alg', 'iss', 'aud', 'time'])
const unverified = [false, {}, {}] as const

export const jwtBuiltins: Readonly<Record<string, Builtin>> = {
  'io.jwt.decode': ([token]) => decode(textOf(token), 0),
  'io.jwt.decode_verify': ([token, constraints], { timeNs }) => decodeVerify(textOf(token), objectOf(constraints), timeNs),
  ...Object.fromEntries(asymmetric.map(alg => [`io.jwt.verify_${alg.toLowerCase()}`, ([token, keys]) => {
    const read = parse(textOf(token))
    return anyVerifies(read, alg, readKeys(textOf(keys)))
  }] satisfies [string, Builtin])),
  ...Object.fromEntries(symmetric.map(alg => [
    `io.jwt.verify_${alg.toLowerCase()}`, ([token, secret]) => verifyMac(parse(textOf(token)), alg, textOf(secret))
  ] satisfies [string, Builtin]))
}

function parse (text: string): Token {
  const parts = text.split('.')
  if (parts.length !== 3) throw new NoValue()
  const [header, payload, signature] = parts.map(part => fromBase64Url(part)) as [Buffer, Buffer, Buffer]
  return { header: parseObject(header.toString()), payload: payload.toString(), signed: `${parts[0]}.${parts[1]}`, signature }
}

function decode (text: string, depth: number): RegoValue {
  const { header, payload, signature } = parse(text)
  // A token in a token (RFC 7519 §5.2); one of them is in quotes at some issuers.
  if (header['cty'] === 'JWT') {
    if (depth > 3) throw new NoValue()
    return decode(payload.replaceAll(/^["']+|["']+$/g, ''), depth + 1)
  }
  return [header, parseObject(payload), signature.toString('hex')]
}

function decodeVerify (text: string, constraints: RegoObject, timeNs: bigint): RegoValue {
  if (Object.keys(constraints).some(name => !constraintNames.has(name))) throw new NoValue()
  const wanted = (name: string) => constraints[name] === undefined ? '' : textOf(constraints[name])
  const [cert, secret, alg, iss, aud] = ['cert', 'secret', 'alg', 'iss', 'aud'].map(wanted) as [string, string, string, string, string]
  if ((cert === '') === (secret === '')) throw new NoValue()
  const seconds = constraints['time'] === undefined ? Number(timeNs) / 1e9 : numberOf(constraints['time']) / 1e9
  if (seconds < 0) throw new NoValue()
  let token = parse(text)
  for (let depth = 0; ; depth++) {
    const used = token.header['alg']
    if (typeof used !== 'string' || token.header['crit'] !== undefined || depth > 3) return unverified
    if (alg !== '' && alg !== used) return unverified
    if (!(cert === '' ? verifyMac(token, used, secret) : anyVerifies(token, used, readKeys(cert)))) return unverified
    const type = token.header['cty']
    if (typeof type !== 'string' || type.toUpperCase() !== 'JWT') break
    token = parse(token.payload)
  }
  const payload = parseObject(token.payload)
  const { iss: issuer, aud: audience, exp, nbf } = payload
  if (iss !== '' && issuer !== iss) return unverified
  if (audience === undefined ? aud !== '' : !(Array.isArray(audience) ? audience : [audience]).includes(aud)) return unverified
  if (exp !== undefined && seconds >= numberOf(exp)) return unverified
  if (nbf !== undefined && seconds < numberOf(nbf)) return unverified
  return [true, token.header, payload]
}

/** With the key that the header names, if there is one of that name; else with any. */
function anyVerifies (token: Token, alg: string, keys: readonly Key[]): boolean {
  const kid = token.header['kid']
  const named = typeof kid === 'string' && kid !== '' ? keys.find(key => key.kid === kid) : undefined
  if (named !== undefined) return verifySignature(token, alg, named.key)
  return keys.filter(key => key.alg === undefined || key.alg === token.header['alg']).some(({ key }) => verifySignature(token, alg, key))
}

function verifySignature ({ signed, signature }: Token, alg: string, key: KeyObject): boolean {
  const input = signatureInput(alg, key)
  try {
    return input !== undefined && verify(alg === 'EdDSA' ? null : `sha${alg.slice(2)}`, Buffer.from(signed), input, signature)
  } catch {
    return false
  }
}

/** How such a signature is verified by this key (RFC 7518 §3.1, RFC 8037 §3.1); `undefined`: the key is of another type. */
function signatureInput (alg: string, key: KeyObject): VerifyKeyObjectInput | undefined {
  if (/^RS\d/.test(alg)) return key.asymmetricKeyType === 'rsa' ? { key, padding: constants.RSA_PKCS1_PADDING } : undefined
  if (/^PS\d/.test(alg)) {
    return key.asymmetricKeyType === 'rsa' ? { key, padding: constants.RSA_PKCS1_PSS_PADDING,
      saltLength: constants.RSA_PSS_SALTLEN_AUTO } : undefined
  }
  if (alg === 'EdDSA') return key.asymmetricKeyType === 'ed25519' ? { key } : undefined
  const curve = curves[alg]
  return curve !== undefined && key.asymmetricKeyDetails?.namedCurve === curve ? { key, dsaEncoding: 'ieee-p1363' } : undefined
}

function verifyMac ({ signed, signature }: Token, alg: string, secret: string): boolean {
  if (!(symmetric as readonly string[]).includes(alg)) return false
  const expected = createHmac(`sha${alg.slice(2)}`, secret).update(signed).digest()
  return expected.length === signature.length && timingSafeEqual(expected, signature)
}

const readBefore = new Map<string, readonly Key[]>()

/** @param text one certificate or public key in PEM, or a JWK or JWKS */
function readKeys (text: string): readonly Key[] {
  const known = readBefore.get(text)
  if (known !== undefined) return known
  let keys: readonly Key[]
  try {
    keys = parseKeys(text)
  } catch {
    throw new NoValue()
  }
  if (readBefore.size >= 100) readBefore.clear()
  readBefore.set(text, keys)
  return keys
}

function parseKeys (text: string): Key[] {
  const pem = /^\s*-----BEGIN (CERTIFICATE|PUBLIC KEY)-----[^-]+-----END \1-----\r?\n?$/.exec(text)
  if (pem !== null) {
    return [{ key: pem[1] === 'CERTIFICATE' ? new X509Certificate(text).publicKey : createPublicKey(text), kid: undefined, alg: undefined }]
  }
  const document = parseObject(text)
  const members = Array.isArray(document['keys']) ? document['keys'] as readonly RegoObject[] : [document]
  return members.map(member => ({
    key: createPublicKey({ key: member, format: 'jwk' }),
    kid: typeof member['kid'] === 'string' ? member['kid'] : undefined, alg: typeof member['alg'] === 'string' ? member['alg'] : undefined
  }))
}

function parseObject (text: string): RegoObject {
  try {
    return objectOf(JSON.parse(text) as RegoValue)
  } catch {
    throw new NoValue()
  }
}

function fromBase64Url (text: string): Buffer {
  if (!/^[\w-]*={0,2}$/.test(text)) throw new NoValue()
  return Buffer.from(text, 'base64url')
}
