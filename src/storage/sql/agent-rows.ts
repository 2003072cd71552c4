import type { Agent } from '../../spiffe/agent.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import { isStorableText } from '../../spiffe/storable-text.ts'
import type { AgentRow, AgentRowDraft } from './schema.ts'
import { decodeSelectors, encodeSelectors } from './selector-columns.ts'

const longestVersion = 255

/** @param agent its selectors normalised */
export function encodeAgent (agent: Agent): AgentRowDraft {
  return {
    id: agent.id,
    attestation_type: agent.attestationType,
    serial_number: agent.serialNumber,
    expires_at: agent.expiresAt.getTime(),
    new_serial_number: agent.newSerialNumber ?? null,
    new_expires_at: agent.newExpiresAt?.getTime() ?? null,
    can_reattest: Number(agent.canReattest),
    banned: Number(agent.banned),
    agent_version: agent.agentVersion,
    selectors: encodeSelectors(agent.selectors),
    selector_count: agent.selectors.length
  }
}

export function decodeAgent (row: AgentRow): Agent {
  return {
    id: row.id as SpiffeId,
    attestationType: row.attestation_type,
    serialNumber: row.serial_number,
    expiresAt: new Date(row.expires_at),
    ...row.new_serial_number === null ? {} : { newSerialNumber: row.new_serial_number },
    ...row.new_expires_at === null ? {} : { newExpiresAt: new Date(row.new_expires_at) },
    canReattest: row.can_reattest !== 0,
    banned: row.banned !== 0,
    agentVersion: row.agent_version,
    selectors: decodeSelectors(row.selectors)
  }
}

/** @throws {SpiffeError} `argument_invalid` */
export function checkAgentVersion (agentVersion: string): string {
  if (agentVersion.length > longestVersion) {
    throw new SpiffeError('argument_invalid', `agent version is too long (max ${longestVersion} characters): it has ${agentVersion.length}`)
  }
  if (!isStorableText(agentVersion)) throw new SpiffeError('argument_invalid', 'agent version contains U+0000 or a lone surrogate')
  return agentVersion
}
