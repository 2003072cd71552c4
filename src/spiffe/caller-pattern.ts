import { SpiffeError } from './errors.ts'
import { parseSpiffeId, pathOf, trustDomainOf, type SpiffeId } from './spiffe-id.ts'
import type { TrustDomain } from './trust-domain.ts'

declare const parsed: unique symbol
/** Callers: a SPIFFE ID, or all IDs below a path as `spiffe://example.org/path/*`. Equality is string equality. */
export type CallerPattern = string & { readonly [parsed]: 'CallerPattern' }

const below = '/*'

/** @throws {SpiffeError} `service_malformed` */
export function parseCallerPattern (text: string): CallerPattern {
  try {
    const id = parseSpiffeId(text.endsWith(below) ? text.slice(0, -below.length) : text)
    if (!text.endsWith(below) && pathOf(id) === '') throw new SpiffeError('spiffe_id_malformed', `"${text}" is no workload`)
    return text as CallerPattern
  } catch (error) {
    throw new SpiffeError('service_malformed', `invalid caller: ${(error as SpiffeError).message}`, { cause: error })
  }
}

/** The trust domain whose members it names. */
export function callersDomain (pattern: CallerPattern): TrustDomain { return trustDomainOf(pattern as string as SpiffeId) }

/** Whether the ID is one of the callers; `spiffe://example.org/a/*` is any ID below `/a`, at any depth, and not `/a` itself. */
export function isCaller (pattern: CallerPattern, id: SpiffeId): boolean {
  return pattern.endsWith(below) ? id.startsWith(pattern.slice(0, -1)) : (pattern as string) === id
}
