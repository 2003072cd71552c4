import type { Agent } from '../spiffe/agent.ts'
import type { AgentInit, AgentMask } from './generated/types.ts'
import { encodeSpiffeId } from './spiffe-id-codec.ts'

/** @param mask fields to keep; the id is always kept, everything without a mask */
export function encodeAgent (agent: Agent, mask?: AgentMask): AgentInit {
  const message = {
    id: encodeSpiffeId(agent.id),
    attestationType: agent.attestationType,
    x509svidSerialNumber: encodeSerialNumber(agent.serialNumber),
    x509svidExpiresAt: Math.floor(agent.expiresAt.getTime() / 1000),
    selectors: agent.selectors,
    banned: agent.banned,
    canReattest: agent.canReattest,
    agentVersion: agent.agentVersion
  }
  if (mask === undefined) return message
  return Object.fromEntries(Object.entries(message).filter(([name]) => name === 'id' || mask[name as keyof AgentMask]))
}

/** Decimal on the wire, hex inside; empty for a banned agent. */
function encodeSerialNumber (hex: string): string {
  return hex === '' ? '' : BigInt(`0x${hex}`).toString()
}
