import { SpiffeError } from './errors.ts'

declare const parsed: unique symbol
/** A trust domain name such as `example.org`; holding one proves that it was parsed. */
export type TrustDomain = string & { readonly [parsed]: 'TrustDomain' }

/**
 * Reads a bare trust domain name (SPIFFE-ID §2.1; length from §2.3; lowercase only, AMB-01).
 * @param name at most 255 bytes of `a-z 0-9 . - _`, without the `spiffe://` scheme
 * @throws {SpiffeError} `trust_domain_malformed`, naming the rule that was broken
 */
export function parseTrustDomain (name: string): TrustDomain {
  if (!/^[a-z0-9._-]{1,255}$/.test(name)) throw brokenRule(name)
  return name as TrustDomain
}

/**
 * Refuses a relationship to a foreign domain that bears the local one's name (ID-13).
 * @throws {SpiffeError} `federation_invalid`
 */
export function checkForeign (foreign: TrustDomain, own: TrustDomain): TrustDomain {
  if (foreign !== own) return foreign
  throw new SpiffeError('federation_invalid', `${JSON.stringify(own)} is this trust domain: it cannot federate with itself`, {
    requirement: 'ID-13'
  })
}

function brokenRule (name: string): SpiffeError {
  const [requirement, rule] =
    name === '' ? ['ID-03', 'trust domain is empty']
      : name.length > 255 ? ['ID-11', 'trust domain is longer than 255 bytes']
        : /[@:]/.test(name) ? ['ID-04', 'trust domain has a user or a port']
          : ['ID-05', 'trust domain has a character other than a-z 0-9 . - _']
  return new SpiffeError('trust_domain_malformed', `${rule}: ${JSON.stringify(name.slice(0, 260))}`, { requirement })
}
