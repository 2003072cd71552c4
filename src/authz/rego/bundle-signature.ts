import { constants, createHmac, createPublicKey, timingSafeEqual, verify, X509Certificate, type KeyObject } from 'node:crypto'
import { z } from 'zod'
import { codeOf, SpiffeError } from '../../spiffe/errors.ts'
import { parseStrictJson } from '../../spiffe/strict-json.ts'
import { hashBundleFile } from './canonical-hash.ts'

/** RFC 7518 §3.1, as far as OPA's signers go. */
export const signatureAlgorithms = [
  'RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'HS256', 'HS384', 'HS512'
] as const
type SignatureAlgorithm = typeof signatureAlgorithms[number]

export interface VerificationKey {
  readonly algorithm: SignatureAlgorithm
  /** A public key or certificate in PEM; for HS… the secret itself. */
  readonly key: string
  /** The scope that the signature must claim unless the configuration says one. */
  readonly scope?: string | undefined
}

/** As OPA's `keys` and a bundle's `signing` configure it. */
export interface SignatureVerification {
  readonly keys: Readonly<Record<string, VerificationKey>>
  /** The key to use whatever the signature says. */
  readonly keyId?: string | undefined
  readonly scope?: string | undefined
}

const signatureFile = '.signatures.json'
const fileSchema = z.object({ signatures: z.array(z.string()).length(1), plugin: z.enum(['', '_default']).optional() })
const headerSchema = z.object({ alg: z.string(), kid: z.string().optional(), crit: z.undefined().optional() })
const payloadSchema = z.object({
  files: z.array(z.object({ name: z.string(), hash: z.string(), algorithm: z.string() })).max(10_000),
  keyid: z.string().default(''), scope: z.string().default('')
})
const curves: Readonly<Record<string, string>> = { ES256: 'prime256v1', ES384: 'secp384r1', ES512: 'secp521r1' }

/**
 * Checks that a key of ours signed exactly these files (https://www.openpolicyagent.org/docs/management-bundles#signing).
 * @throws {SpiffeError} `rego_bundle_untrusted`
 */
export function verifyBundle (files: ReadonlyMap<string, Buffer>, verification: SignatureVerification): void {
  const bytes = files.get(signatureFile)
  if (bytes === undefined) throw untrusted('it is not signed, and only signed bundles are taken')
  const { files: claimed } = verifySignature(read(bytes, fileSchema, signatureFile).signatures[0] as string, verification)
  const hashes = new Map(claimed.map(({ name, hash, algorithm }) => [name.replace(/^\/+/, ''), { hash, algorithm }]))
  if (hashes.size !== claimed.length) throw untrusted('its signature names a file twice')
  for (const [path, content] of files) {
    if (path === signatureFile) continue
    const expected = hashes.get(path)
    if (expected === undefined) throw untrusted(`its signature does not cover ${path}`)
    if (hashOf(path, content, expected.algorithm) !== expected.hash.toLowerCase()) {
      throw untrusted(`${path} is not the file that was signed`)
    }
    hashes.delete(path)
  }
  const [missing] = hashes.keys()
  if (missing !== undefined) throw untrusted(`it lacks ${missing}, which its signature covers`)
}

function hashOf (path: string, content: Buffer, algorithm: string): string {
  let hash: string | undefined
  try {
    hash = hashBundleFile(path, content, algorithm)
  } catch (error) {
    throw codeOf(error) === undefined ? error : untrusted(`${path} cannot be read`, error)
  }
  if (hash === undefined) throw untrusted(`its signature hashes ${path} by ${JSON.stringify(algorithm)}, which is not taken`)
  return hash
}

function verifySignature (token: string, { keys, keyId, scope }: SignatureVerification): z.infer<typeof payloadSchema> {
  const parts = token.split('.')
  if (parts.length !== 3 || !parts.every(part => /^[\w-]+$/.test(part))) throw untrusted('its signature is no JWT')
  const [header, payload, signature] = parts.map(part => Buffer.from(part, 'base64url')) as [Buffer, Buffer, Buffer]
  const { alg, kid } = read(header, headerSchema, 'the signature\'s header')
  const claims = read(payload, payloadSchema, 'the signature\'s claims')
  const id = keyId ?? kid ?? claims.keyid
  const key = Object.hasOwn(keys, id) ? keys[id] : undefined
  if (key === undefined) throw untrusted(`no key ${JSON.stringify(id)} is configured`)
  // The algorithm is the configuration's to choose; a token may not make a MAC's secret of a public key.
  if (alg !== key.algorithm) {
    throw untrusted(`it is signed by ${JSON.stringify(alg)}, and key ${JSON.stringify(id)} is for ${key.algorithm}`)
  }
  if (!isSigned(Buffer.from(`${parts[0]}.${parts[1]}`), signature, key)) {
    throw untrusted(`its signature is not by key ${JSON.stringify(id)}`)
  }
  const wanted = scope ?? key.scope ?? ''
  if (claims.scope !== wanted) throw untrusted(`its signature is for scope ${JSON.stringify(claims.scope)}, not ${JSON.stringify(wanted)}`)
  return claims
}

function isSigned (signed: Buffer, signature: Buffer, { algorithm, key }: VerificationKey): boolean {
  const hash = `sha${algorithm.slice(2)}`
  if (algorithm.startsWith('HS')) {
    const expected = createHmac(hash, key).update(signed).digest()
    return expected.length === signature.length && timingSafeEqual(expected, signature)
  }
  const publicKey = readPublicKey(key)
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = publicKey
  if (algorithm.startsWith('ES')) {
    if (details?.namedCurve !== curves[algorithm]) {
      throw new SpiffeError('config_invalid', `a verification key is not of ${algorithm}'s curve`)
    }
    return verify(hash, signed, { key: publicKey, dsaEncoding: 'ieee-p1363' }, signature)
  }
  if (type !== 'rsa') throw new SpiffeError('config_invalid', `a verification key for ${algorithm} is no RSA key`)
  if (algorithm.startsWith('RS')) return verify(hash, signed, publicKey, signature)
  const padding = { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_AUTO }
  return verify(hash, signed, { key: publicKey, ...padding }, signature)
}

function readPublicKey (pem: string): KeyObject {
  try {
    if (pem.includes('PRIVATE KEY')) throw new Error('a private key')
    return pem.includes('BEGIN CERTIFICATE') ? new X509Certificate(pem).publicKey : createPublicKey(pem)
  } catch (error) {
    throw new SpiffeError('config_invalid', 'a verification key is neither a public key nor a certificate in PEM', { cause: error })
  }
}

function read<T> (bytes: Buffer, schema: z.ZodType<T>, what: string): T {
  try {
    return schema.parse(parseStrictJson(bytes))
  } catch (error) {
    throw untrusted(`${what} is malformed`, error)
  }
}

function untrusted (rule: string, cause?: unknown): SpiffeError {
  return new SpiffeError('rego_bundle_untrusted', `the bundle is not trusted: ${rule}`, { cause })
}
