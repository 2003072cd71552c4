import type { OnSkipped } from '../../spiffe/bundle-document.ts'
import type { Bundle } from '../../spiffe/bundle.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { isJsonObject, type JsonObject } from '../../spiffe/strict-json.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { FetchLimits } from '../client/fetch-limits.ts'
import { readFetchedObject, tooLarge } from '../client/read-fetched.ts'
import { endOf, faultOfSignature, parseStatement } from '../statement/statement.ts'
import { signedBundleType } from './signed-bundle.ts'

export interface Vouching {
  /** The last good bundle of the domain; without one nothing tells whose the signature is. */
  readonly lastGood: Bundle | undefined
  readonly at: Date
}

const members: ReadonlySet<string> = new Set(['trust_domain', 'bundle', 'exp'])

/**
 * Reads what `writeSignedBundle` wrote; nothing of the bundle is looked at before the signature is checked.
 * @throws {SpiffeError} `fetched_bundle_malformed`, `fetched_bundle_too_large`, `fetched_bundle_foreign`; `fetched_bundle_untrusted` when
 *   the last good bundle does not vouch for it, or it has expired: who can write there could else keep an old one for ever
 */
export function readSignedBundle (
  bytes: Uint8Array, trustDomain: TrustDomain, limits: Pick<FetchLimits, 'maxBytes' | 'maxKeys'>, { lastGood, at }: Vouching,
  onSkipped: OnSkipped
): Bundle {
  if (bytes.length > limits.maxBytes) throw tooLarge(`more than ${limits.maxBytes} bytes`)
  // Base64url and dots are ASCII; what is not fails as base64url.
  const { claims, jws } = parseStatement(Buffer.from(bytes).toString('latin1'), signedBundleType, malformed)
  const { document, expiresAt } = readClaims(claims, trustDomain)
  if (lastGood === undefined) throw untrusted(`nothing tells whose signature it is: there is no bundle of ${trustDomain} yet`)
  const fault = faultOfSignature(jws, lastGood)
  if (fault !== undefined) throw untrusted(fault)
  if (expiresAt <= at) throw untrusted(`it was valid until ${expiresAt.toISOString()}`)
  return readFetchedObject(document, trustDomain, limits, onSkipped)
}

function readClaims (claims: JsonObject, wanted: TrustDomain): { readonly document: JsonObject, readonly expiresAt: Date } {
  const unknown = Object.keys(claims).find(name => !members.has(name))
  if (unknown !== undefined) throw malformed(`${JSON.stringify(unknown.slice(0, 100))} is unknown; it may be of a newer version`)
  const { trust_domain: domain, bundle: document } = claims
  const expiresAt = endOf(claims)
  if (expiresAt === undefined) throw malformed('exp is no whole number of seconds')
  if (typeof domain !== 'string') throw malformed('trust_domain is no string')
  if (!isJsonObject(document)) throw malformed('bundle is no object')
  if (domain === wanted) return { document, expiresAt }
  const rule = `it is of ${JSON.stringify(domain.slice(0, 255))}, and that of ${wanted} is wanted`
  throw new SpiffeError('fetched_bundle_foreign', rule, { requirement: 'TDB-04' })
}

function malformed (rule: string, cause?: unknown): SpiffeError {
  return new SpiffeError('fetched_bundle_malformed', `this is no signed bundle: ${rule}`, { cause })
}

function untrusted (rule: string): SpiffeError { return new SpiffeError('fetched_bundle_untrusted', rule) }
