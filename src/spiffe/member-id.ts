import { SpiffeError } from './errors.ts'
import { pathOf, spiffeIdOf, trustDomainOf, type SpiffeId } from './spiffe-id.ts'
import type { TrustDomain } from './trust-domain.ts'

/** The ID that every server of a trust domain shows. */
export function serverIdOf (trustDomain: TrustDomain): SpiffeId {
  return spiffeIdOf(trustDomain, '/spire/server')
}

/** Whether an ID is `/spire` or lies below it: servers and agents, never workloads. */
export function isReservedId (id: SpiffeId): boolean {
  const path = pathOf(id)
  return path === '/spire' || path.startsWith('/spire/')
}

/**
 * Refuses an ID of another trust domain, and the ID of the trust domain itself.
 * @throws {SpiffeError} `spiffe_id_not_allowed`
 */
export function checkMemberId (id: SpiffeId, trustDomain: TrustDomain): SpiffeId {
  return check(id, trustDomain, 'a member of')
}

/**
 * Refuses what `checkMemberId` refuses and everything at or below `/spire`.
 * @throws {SpiffeError} `spiffe_id_not_allowed`
 */
export function checkWorkloadId (id: SpiffeId, trustDomain: TrustDomain): SpiffeId {
  check(id, trustDomain, 'a workload in')
  if (isReservedId(id)) throw notAllowed(id, trustDomain, 'a workload in', '; path is in the reserved namespace')
  return id
}

function check (id: SpiffeId, trustDomain: TrustDomain, role: string): SpiffeId {
  if (trustDomainOf(id) !== trustDomain) throw notAllowed(id, trustDomain, 'a member of', '')
  if (pathOf(id) === '') throw notAllowed(id, trustDomain, role, '; path is empty')
  return id
}

/** The wording is that of SPIRE: scripts match on it. */
function notAllowed (id: SpiffeId, trustDomain: TrustDomain, role: string, reason: string): SpiffeError {
  return new SpiffeError('spiffe_id_not_allowed', `"${id}" is not ${role} trust domain "${trustDomain}"${reason}`)
}
