import { SpiffeError } from './errors.ts'
import { parseTrustDomain, type TrustDomain } from './trust-domain.ts'

declare const parsed: unique symbol
/** A SPIFFE ID in its one spelling, e.g. `spiffe://example.org/web`; equality is string equality. */
export type SpiffeId = string & { readonly [parsed]: 'SpiffeId' }

const scheme = 'spiffe://'
const maxBytes = 2048

/**
 * Reads a SPIFFE ID (SPIFFE-ID §2; lowercase scheme and domain only, AMB-01; at most 2048 bytes, AMB-26).
 * Read by hand: `URL` would normalise what must be refused (TS-02).
 * @throws {SpiffeError} `spiffe_id_malformed`, with the number of the broken requirement
 */
export function parseSpiffeId (text: string): SpiffeId {
  if (!text.startsWith(scheme)) throw malformed('ID-01', 'the scheme is not spiffe://', text)
  if (text.length > maxBytes) throw malformed('ID-10', `longer than ${maxBytes} bytes`, text)
  const slash = text.indexOf('/', scheme.length)
  try {
    parseTrustDomain(slash < 0 ? text.slice(scheme.length) : text.slice(scheme.length, slash))
  } catch (error) {
    const requirement = /[?#]/.test(text) ? 'ID-02' : (error as SpiffeError).requirement ?? 'ID-05'
    throw malformed(requirement, (error as SpiffeError).message, text, error)
  }
  if (slash >= 0) checkPath(text.slice(slash), text)
  return text as SpiffeId
}

/**
 * Joins a trust domain and a path.
 * @param path empty, or `/segment…`
 * @throws {SpiffeError} `spiffe_id_malformed`
 */
export function spiffeIdOf (trustDomain: TrustDomain, path: string): SpiffeId {
  // Otherwise the path would lengthen the trust domain's name.
  if (path !== '' && !path.startsWith('/')) throw malformed('ID-01', 'the path does not begin with a slash', path)
  return parseSpiffeId(scheme + trustDomain + path)
}

/** The trust domain an ID lies in. */
export function trustDomainOf (id: SpiffeId): TrustDomain {
  const slash = id.indexOf('/', scheme.length)
  return (slash < 0 ? id.slice(scheme.length) : id.slice(scheme.length, slash)) as TrustDomain
}

/**
 * Reads a trust domain by its name, or by an ID that lies in it: SPIRE's clients write either.
 * @throws {SpiffeError} `trust_domain_malformed`, `spiffe_id_malformed`
 */
export function parseTrustDomainOrId (text: string): TrustDomain {
  return text.startsWith(scheme) ? trustDomainOf(parseSpiffeId(text)) : parseTrustDomain(text)
}

/** The path with its leading slash, or the empty string for a trust domain's own ID. */
export function pathOf (id: SpiffeId): string {
  const slash = id.indexOf('/', scheme.length)
  return slash < 0 ? '' : id.slice(slash)
}

/** The ID of a trust domain itself: no path, no trailing slash (ID-09). */
export function trustDomainId (trustDomain: TrustDomain): SpiffeId {
  return (scheme + trustDomain) as SpiffeId
}

function checkPath (path: string, text: string): void {
  if (/[?#]/.test(path)) throw malformed('ID-02', 'has a query or a fragment', text)
  for (const segment of path.slice(1).split('/')) {
    if (segment === '') {
      const trailing = !path.includes('//')
      throw trailing ? malformed('ID-09', 'the path ends with a slash', text) : malformed('ID-08', 'the path has an empty segment', text)
    }
    if (segment === '.' || segment === '..') throw malformed('ID-08', `the path has the segment ${segment}`, text)
    if (!/^[A-Za-z0-9._-]+$/.test(segment)) {
      throw malformed('ID-07', 'a path segment has a character other than A-Z a-z 0-9 . - _', text)
    }
  }
}

function malformed (requirement: string, rule: string, text: string, cause?: unknown): SpiffeError {
  const shown = JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}…` : text)
  return new SpiffeError('spiffe_id_malformed', `invalid SPIFFE ID ${shown}: ${rule}`, { requirement, cause })
}
