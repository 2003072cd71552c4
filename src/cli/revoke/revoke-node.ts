import { parseSpiffeId } from '../../spiffe/spiffe-id.ts'
import { encodeSpiffeId } from '../../wire/spiffe-id-codec.ts'
import { defineCommand } from '../command.ts'
import { revoke, revokeFlags } from './revoke-call.ts'

export const revokeNode = defineCommand({
  argument: { name: 'AGENT-ID' },
  flags: revokeFlags,
  details: 'Bans the agent as `assay agent ban` does, and revokes every certificate that was issued to it: its own and its workloads\'.\n' +
    'To let the node attest again, evict the agent and lift the revocation.',
  examples: ['assay revoke node spiffe://example.org/spire/agent/join_token/1234 -reason stolen --wait'],
  run: call => revoke(call, { agentId: encodeSpiffeId(parseSpiffeId(call.argument)) })
})
