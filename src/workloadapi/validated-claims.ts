import type { TrustDomain } from '../spiffe/trust-domain.ts'

const alwaysShown = new Set(['sub', 'aud', 'exp'])

/**
 * What a validating workload learns of a token (WLAPI-29): of a foreign trust domain's only `sub`, `aud`, `exp` and what the operator
 * allowed, since the meaning of its other claims is not this domain's. `aud` is always a list.
 */
export function visibleClaims (
  claims: Readonly<Record<string, unknown>>, from: TrustDomain, own: TrustDomain, allowedForeign: ReadonlySet<string>
): Record<string, unknown> {
  const shown = Object.entries(claims).filter(([name]) => from === own || alwaysShown.has(name) || allowedForeign.has(name))
  return Object.fromEntries(shown.map(([name, value]) => [name, name === 'aud' && !Array.isArray(value) ? [value] : value]))
}
