import { SpiffeError } from './errors.ts'
import { checkMemberId } from './member-id.ts'
import { parseSpiffeId, pathOf, spiffeIdOf, type SpiffeId } from './spiffe-id.ts'
import type { Selector } from './selector.ts'
import type { TrustDomain } from './trust-domain.ts'

const agentPrefix = '/spire/agent/'

/** An attested node. Its X509-SVID is recognised by serial number: lower hex without leading zeros, empty once banned. */
export interface Agent {
  readonly id: SpiffeId
  /** Node attestor that vouched for it, e.g. `join_token`. */
  readonly attestationType: string
  readonly serialNumber: string
  readonly expiresAt: Date
  /** Of an SVID that was renewed but not used yet; the first call made with it makes it the current one. */
  readonly newSerialNumber?: string | undefined
  readonly newExpiresAt?: Date | undefined
  readonly canReattest: boolean
  /** Normalised. */
  readonly selectors: readonly Selector[]
  readonly banned: boolean
  /** What the agent reported last; empty before its first report. */
  readonly agentVersion: string
}

/** Whether an ID lies below `/spire/agent/` of whatever trust domain. */
export function isAgentId (id: SpiffeId): boolean {
  return pathOf(id).startsWith(agentPrefix)
}

/** The ID `spiffe://<trust domain>/spire/agent/<attestor>/<name>`. @throws {SpiffeError} `agent_id_malformed` */
export function agentIdOf (trustDomain: TrustDomain, attestor: string, name: string): SpiffeId {
  try {
    return spiffeIdOf(trustDomain, `${agentPrefix}${attestor}/${name}`)
  } catch (error) {
    // The name may be a join token: it stays out of the message.
    throw new SpiffeError('agent_id_malformed', `${attestor} yields a name that is no path of a SPIFFE ID`, {
      requirement: (error as SpiffeError).requirement
    })
  }
}

/**
 * The ID `spiffe://<trust domain>/spire/agent<path>` that an operator's template gives.
 * @throws {SpiffeError} `agent_id_malformed`
 */
export function templatedAgentIdOf (trustDomain: TrustDomain, path: string): SpiffeId {
  try {
    return spiffeIdOf(trustDomain, `${agentPrefix.slice(0, -1)}${path}`)
  } catch (error) {
    const { message, requirement } = error as SpiffeError
    const rule = `agent_path_template gives ${JSON.stringify(path)}: ${message}`
    throw new SpiffeError('agent_id_malformed', rule, { cause: error, requirement })
  }
}

export function agentBanned (id: SpiffeId): SpiffeError {
  return new SpiffeError('agent_banned', 'agent is banned', { details: { id } })
}

/** Why a node may not attest that is trusted on first use only. */
export function attestedBefore (id: SpiffeId): SpiffeError {
  return new SpiffeError('attestation_refused',
    `attestation data has already been used to attest an agent: ${id}; if it was this node's, \`assay agent evict\` lets it attest again`)
}

/**
 * Reads the ID of an agent of this trust domain.
 * @throws {SpiffeError} `agent_id_malformed`
 */
export function parseAgentId (text: string, trustDomain: TrustDomain): SpiffeId {
  try {
    const id = checkMemberId(parseSpiffeId(text), trustDomain)
    if (isAgentId(id)) return id
  } catch (error) {
    const { message, requirement } = error as SpiffeError
    throw new SpiffeError('agent_id_malformed', message, { cause: error, requirement })
  }
  throw new SpiffeError('agent_id_malformed',
    `"${text}" is not an agent in trust domain "${trustDomain}"; path is not in the agent namespace`)
}
