import { readBundle, type OnSkipped } from '../../spiffe/bundle-document.ts'
import type { Bundle } from '../../spiffe/bundle.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { parseStrictJsonObject, type JsonObject } from '../../spiffe/strict-json.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { FetchLimits } from './fetch-limits.ts'

/**
 * Reads what a partner published. No authorities is legal, and means that nothing of the domain is trusted (TDB-13).
 * @throws {SpiffeError} `fetched_bundle_malformed`, with the number of the broken requirement; `fetched_bundle_too_large`
 */
export function readFetched (
  bytes: Uint8Array, trustDomain: TrustDomain, limits: Pick<FetchLimits, 'maxBytes' | 'maxKeys'>, onSkipped: OnSkipped
): Bundle {
  const { maxBytes } = limits
  if (bytes.length > maxBytes) throw tooLarge(`more than ${maxBytes} bytes`)
  return readFetchedObject(inWords(() => parseStrictJsonObject(bytes, { maxLength: maxBytes })), trustDomain, limits, onSkipped)
}

/** Of a document that was read already; the same otherwise. */
export function readFetchedObject (
  document: JsonObject, trustDomain: TrustDomain, { maxKeys }: Pick<FetchLimits, 'maxKeys'>, onSkipped: OnSkipped
): Bundle {
  // Before any of them is looked at: each key that is refused costs as much as one that is not.
  if (Array.isArray(document.keys) && document.keys.length > maxKeys) throw tooLarge(`more than ${maxKeys} keys`)
  return inWords(() => readBundle(document, trustDomain, onSkipped))
}

export function tooLarge (what: string): SpiffeError {
  return new SpiffeError('fetched_bundle_too_large', `what is offered as a bundle has ${what}`)
}

function inWords<T> (read: () => T): T {
  try {
    return read()
  } catch (cause) {
    if (!(cause instanceof SpiffeError)) throw cause
    const requirement = cause.requirement ?? (cause.message.endsWith('repeated name') ? 'TS-03' : 'TDB-01')
    throw new SpiffeError('fetched_bundle_malformed', `what is offered is no bundle: ${cause.message}`, { cause, requirement })
  }
}
