import type { Agent } from '../../wire/generated/types.ts'
import { formatRows, formatUnixSeconds } from '../pretty.ts'
import { agentIdText } from './agent-id.ts'

/** The rows of one agent with an empty line after them. */
export function formatAgent (agent: Agent, { selectors }: { selectors: boolean }): string {
  return `${formatRows([
    ['SPIFFE ID', agentIdText(agent)],
    ['Attestation type', agent.attestationType],
    ['Expiration time', formatUnixSeconds(agent.x509svidExpiresAt)],
    agent.banned ? ['Banned', 'true'] : ['Serial number', agent.x509svidSerialNumber],
    ['Can re-attest', `${agent.canReattest}`],
    ['Agent version', agent.agentVersion === '' ? undefined : agent.agentVersion],
    ...selectors ? agent.selectors.map(({ type, value }) => ['Selectors', `${type}:${value}`] as const) : []
  ], 18)}\n`
}
