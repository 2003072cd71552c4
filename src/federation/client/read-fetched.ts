import { readBundle, type OnSkipped } from '../../spiffe/bundle-document.ts'
import type { Bundle } from '../../spiffe/bundle.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { parseStrictJsonObject } from '../../spiffe/strict-json.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { FetchLimits } from './fetch-limits.ts'

/**
 * Reads what a partner published. No authorities is legal, and means that nothing of the domain is trusted (TDB-13).
 * @throws {SpiffeError} `fetched_bundle_malformed`, with the number of the broken requirement; `fetched_bundle_too_large`
 */
export function readFetched (
  bytes: Uint8Array, trustDomain: TrustDomain, { maxBytes, maxKeys }: Pick<FetchLimits, 'maxBytes' | 'maxKeys'>, onSkipped: OnSkipped
): Bundle {
  if (bytes.length > maxBytes) throw tooLarge(`more than ${maxBytes} bytes`)
  try {
    const document = parseStrictJsonObject(bytes, { maxLength: maxBytes })
    // Before any of them is looked at: each key that is refused costs as much as one that is not.
    if (Array.isArray(document.keys) && document.keys.length > maxKeys) throw tooLarge(`more than ${maxKeys} keys`)
    return readBundle(document, trustDomain, onSkipped)
  } catch (cause) {
    if (!(cause instanceof SpiffeError) || cause.code === 'fetched_bundle_too_large') throw cause
    const requirement = cause.requirement ?? (cause.message.endsWith('repeated name') ? 'TS-03' : 'TDB-01')
    throw new SpiffeError('fetched_bundle_malformed', `what is offered is no bundle: ${cause.message}`, { cause, requirement })
  }
}

export function tooLarge (what: string): SpiffeError {
  return new SpiffeError('fetched_bundle_too_large', `what is offered as a bundle has ${what}`)
}
