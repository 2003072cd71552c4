import { readBundle } from '../../spiffe/bundle-document.ts'
import { parseBundleEndpoint } from '../../spiffe/bundle-endpoint.ts'
import type { Bundle } from '../../spiffe/bundle.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { isJsonObject, type JsonObject, type JsonValue } from '../../spiffe/strict-json.ts'
import { endOf, faultOfSignature, parseStatement, type StatementSignature } from '../statement/statement.ts'
import { bundlePin } from './bundle-pin.ts'
import { invitationLimits, invitationType, type Invitation } from './invitation.ts'

/** Read, and not yet believed. */
export interface ParsedInvitation {
  readonly claimed: Invitation
  readonly jws: StatementSignature
}

const members: ReadonlySet<string> = new Set([
  'trust_domain', 'bundle_endpoint_url', 'bundle_endpoint_profile', 'endpoint_spiffe_id', 'bundle_pin', 'bundle', 'scope', 'exp'
])

/**
 * Reads an invitation strictly. White space anywhere counts for nothing: it may have come by mail.
 * @throws {SpiffeError} `invitation_malformed`
 */
export function parseInvitation (text: string): ParsedInvitation {
  if (text.length > invitationLimits.mostLength) throw malformed(`it is longer than ${invitationLimits.mostLength} characters`)
  const { claims, jws } = parseStatement(text, invitationType, malformed)
  return { claimed: readClaims(claims), jws }
}

/**
 * Checks that the trust domain whose bundle this is signed it, and that it still holds.
 * @param bundle what is known of the domain for certain, or what the invitation carries
 * @throws {SpiffeError} `invitation_untrusted`, `invitation_expired`
 */
export function verifyInvitation ({ claimed, jws }: ParsedInvitation, bundle: Bundle, at: Date): Invitation {
  const { trustDomain } = claimed.endpoint
  if (bundle.trustDomain !== trustDomain) throw untrusted(`the bundle is of ${bundle.trustDomain}, and the invitation of ${trustDomain}`)
  const fault = faultOfSignature(jws, bundle)
  if (fault !== undefined) throw untrusted(fault)
  if (claimed.expiresAt <= at) throw new SpiffeError('invitation_expired', `it was valid until ${claimed.expiresAt.toISOString()}`)
  return claimed
}

/** @throws {SpiffeError} `invitation_untrusted` */
export function checkPin ({ pin }: Invitation, bundle: Bundle): void {
  const found = bundlePin(bundle)
  if (found !== pin) throw untrusted(`it names the keys ${pin}, and those of the bundle are ${found}`)
}

function readClaims (claims: JsonObject): Invitation {
  const unknown = Object.keys(claims).find(name => !members.has(name))
  if (unknown !== undefined) throw malformed(`${JSON.stringify(unknown.slice(0, 100))} is unknown; it may be of a newer version`)
  const { scope = '', bundle_pin: pin, bundle } = claims
  const expiresAt = endOf(claims)
  if (expiresAt === undefined) throw malformed('exp is no whole number of seconds')
  if (typeof scope !== 'string' || scope.length > invitationLimits.mostScopeLength) throw malformed('scope is no string, or too long')
  if (typeof pin !== 'string' || !/^sha256:[0-9a-f]{64}$/.test(pin)) throw malformed('bundle_pin is no SHA-256 in hex')
  return inWords(() => {
    const endpoint = parseBundleEndpoint({
      trustDomain: optionalText(claims, 'trust_domain'), url: optionalText(claims, 'bundle_endpoint_url'),
      profile: optionalText(claims, 'bundle_endpoint_profile'), endpointId: optionalText(claims, 'endpoint_spiffe_id')
    })
    return { endpoint, pin, scope, expiresAt, bundle: readCarried(bundle, endpoint.trustDomain) }
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

function inWords<T> (read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (!(error instanceof SpiffeError) || error.code === 'invitation_malformed') throw error
    throw malformed(error.message, error)
  }
}

function malformed (rule: string, cause?: unknown): SpiffeError {
  return new SpiffeError('invitation_malformed', `this is no invitation: ${rule}`, { cause })
}

function untrusted (rule: string): SpiffeError { return new SpiffeError('invitation_untrusted', rule) }
