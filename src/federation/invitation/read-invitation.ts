import { fitsAlgorithm, findJwsAlgorithm, verifyJws, type JwsAlgorithm } from '../../jwt/jws-algorithm.ts'
import { verificationKeysOf } from '../../jwt/verification-keys.ts'
import { readBundle } from '../../spiffe/bundle-document.ts'
import { parseBundleEndpoint } from '../../spiffe/bundle-endpoint.ts'
import type { Bundle } from '../../spiffe/bundle.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { isJsonObject, parseStrictJsonObject, type JsonObject, type JsonValue } from '../../spiffe/strict-json.ts'
import { bundlePin } from './bundle-pin.ts'
import { invitationLimits, invitationType, type Invitation } from './invitation.ts'

/** Read, and not yet believed. */
export interface ParsedInvitation {
  readonly claimed: Invitation
  readonly jws: {
    readonly algorithm: JwsAlgorithm
    readonly keyId: string
    readonly signingInput: Uint8Array
    readonly signature: Uint8Array
  }
}

/** The last second that a `Date` can hold. */
const lastSecond = 8.64e12
const members: ReadonlySet<string> = new Set([
  'trust_domain', 'bundle_endpoint_url', 'bundle_endpoint_profile', 'endpoint_spiffe_id', 'bundle_pin', 'bundle', 'scope', 'exp'
])

/**
 * Reads an invitation strictly. White space anywhere counts for nothing: it may have come by mail.
 * @throws {SpiffeError} `invitation_malformed`
 */
export function parseInvitation (text: string): ParsedInvitation {
  if (text.length > invitationLimits.mostLength) throw malformed(`it is longer than ${invitationLimits.mostLength} characters`)
  const parts = text.replace(/\s+/g, '').split('.')
  if (parts.length !== 3) throw malformed('it is not three parts between two dots')
  const [header, payload, signature] = parts.map(decodePart) as [Buffer, Buffer, Buffer]
  return {
    jws: { ...readHeader(parseObject('header', header)), signingInput: Buffer.from(parts.slice(0, 2).join('.'), 'latin1'), signature },
    claimed: readClaims(parseObject('payload', payload))
  }
}

/**
 * Checks that the trust domain whose bundle this is signed it, and that it still holds.
 * @param bundle what is known of the domain for certain, or what the invitation carries
 * @throws {SpiffeError} `invitation_untrusted`, `invitation_expired`
 */
export function verifyInvitation ({ claimed, jws }: ParsedInvitation, bundle: Bundle, at: Date): Invitation {
  const { trustDomain } = claimed.endpoint
  if (bundle.trustDomain !== trustDomain) throw untrusted(`the bundle is of ${bundle.trustDomain}, and the invitation of ${trustDomain}`)
  const { keyId, algorithm, signingInput, signature } = jws
  const key = verificationKeysOf(bundle).find(key => key.keyId === keyId)
  const shown = JSON.stringify(keyId.slice(0, 100))
  if (key === undefined) throw untrusted(`the bundle of ${trustDomain} has no JWT key ${shown}, which signed it`)
  if (!fitsAlgorithm(algorithm, key.facts) || !verifyJws(algorithm, signingInput, signature, key.key)) {
    throw untrusted(`its signature is not of the key that the bundle of ${trustDomain} has`)
  }
  if (claimed.expiresAt <= at) throw new SpiffeError('invitation_expired', `it was valid until ${claimed.expiresAt.toISOString()}`)
  return claimed
}

/** @throws {SpiffeError} `invitation_untrusted` */
export function checkPin ({ pin }: Invitation, bundle: Bundle): void {
  const found = bundlePin(bundle)
  if (found !== pin) throw untrusted(`it names the keys ${pin}, and those of the bundle are ${found}`)
}

function readHeader ({ alg, kid, typ, crit }: JsonObject): Pick<ParsedInvitation['jws'], 'algorithm' | 'keyId'> {
  if (typ !== invitationType) throw malformed(`typ is not ${JSON.stringify(invitationType)}: it is something else`)
  if (crit !== undefined) throw malformed('crit is not accepted')
  const algorithm = typeof alg === 'string' ? findJwsAlgorithm(alg) : undefined
  if (algorithm === undefined) throw malformed('alg is missing or not accepted')
  if (typeof kid !== 'string' || kid === '') throw malformed('kid is missing or no string')
  return { algorithm, keyId: kid }
}

function readClaims (claims: JsonObject): Invitation {
  const unknown = Object.keys(claims).find(name => !members.has(name))
  if (unknown !== undefined) throw malformed(`${JSON.stringify(unknown.slice(0, 100))} is unknown; it may be of a newer version`)
  const { exp, scope = '', bundle_pin: pin, bundle } = claims
  const holds = typeof exp === 'number' && Number.isSafeInteger(exp) && exp >= 0 && exp <= lastSecond
  if (!holds) throw malformed('exp is no whole number of seconds')
  if (typeof scope !== 'string' || scope.length > invitationLimits.mostScopeLength) throw malformed('scope is no string, or too long')
  if (typeof pin !== 'string' || !/^sha256:[0-9a-f]{64}$/.test(pin)) throw malformed('bundle_pin is no SHA-256 in hex')
  return inWords(() => {
    const endpoint = parseBundleEndpoint({
      trustDomain: optionalText(claims, 'trust_domain'), url: optionalText(claims, 'bundle_endpoint_url'),
      profile: optionalText(claims, 'bundle_endpoint_profile'), endpointId: optionalText(claims, 'endpoint_spiffe_id')
    })
    return { endpoint, pin, scope, expiresAt: new Date(exp * 1_000), bundle: readCarried(bundle, endpoint.trustDomain) }
  })
}

function readCarried (bundle: JsonValue | undefined, trustDomain: Bundle['trustDomain']): Bundle | undefined {
  if (bundle === undefined) return undefined
  if (!isJsonObject(bundle)) throw malformed('bundle is no object')
  return readBundle(bundle, trustDomain)
}

function optionalText (claims: JsonObject, name: string): string | undefined {
  const value = claims[name]
  if (value !== undefined && typeof value !== 'string') throw malformed(`${name} is no string`)
  return value
}

function parseObject (name: string, bytes: Buffer): JsonObject {
  return inWords(() => parseStrictJsonObject(bytes), `${name}: `)
}

function inWords<T> (read: () => T, prefix = ''): T {
  try {
    return read()
  } catch (error) {
    if (!(error instanceof SpiffeError) || error.code === 'invitation_malformed') throw error
    throw malformed(`${prefix}${error.message}`, error)
  }
}

function decodePart (part: string): Buffer {
  const bytes = Buffer.from(part, 'base64url')
  // Node passes over what is no base64url and ignores stray bits at the end.
  if (part === '' || bytes.toString('base64url') !== part) throw malformed('a part is empty or no canonical base64url')
  return bytes
}

function malformed (rule: string, cause?: unknown): SpiffeError {
  return new SpiffeError('invitation_malformed', `this is no invitation: ${rule}`, { cause })
}

function untrusted (rule: string): SpiffeError { return new SpiffeError('invitation_untrusted', rule) }
