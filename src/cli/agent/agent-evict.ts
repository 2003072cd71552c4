import { agentService } from '../../wire/generated/server-agent.ts'
import { encodeSpiffeId } from '../../wire/spiffe-id-codec.ts'
import { withServer } from '../channel-call.ts'
import { defineCommand } from '../command.ts'
import { formatJson } from '../json-output.ts'
import { outputFlag, serverFlags } from '../socket-path.ts'
import { agentIdFlag, requireAgentId } from './agent-id.ts'

export const agentEvict = defineCommand({
  flags: { spiffeID: agentIdFlag, ...serverFlags, output: outputFlag },
  details: 'Its SVID is refused from now on. It may attest again: a ban is for agents that must not.',
  examples: ['assay agent evict -spiffeID spiffe://example.org/spire/agent/join_token/1234'],
  async run (call) {
    const { flags, terminal } = call
    const id = encodeSpiffeId(requireAgentId(flags.spiffeID))
    await withServer(call, channel => channel.client(agentService).deleteAgent({ id }, { signal: terminal.signal }))
    terminal.out(flags.output === 'json' ? `${formatJson({})}\n` : 'Agent evicted successfully\n')
    return 0
  }
})
