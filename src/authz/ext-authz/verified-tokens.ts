import type { HttpFacts } from '../policy/request.ts'

/** Where Envoy's JWT filter leaves the claims that it has verified, among a request's metadata. */
export const jwtFilter = 'envoy.filters.http.jwt_authn'

export type VerifiedTokens = Pick<HttpFacts, 'claims' | 'severalTokens'>

/** @param metadata what stands under `jwtFilter`: payloads, and what else Envoy keeps of tokens, by names that its configuration gives */
export function verifiedTokens (metadata: Readonly<Record<string, unknown>> = {}): VerifiedTokens {
  const [only, ...others] = Object.values(metadata).filter(isClaims)
  return others.length === 0 ? { claims: only } : { severalTokens: true }
}

function isClaims (value: unknown): value is NonNullable<HttpFacts['claims']> {
  return typeof value === 'object' && value !== null && 'iss' in value
}
