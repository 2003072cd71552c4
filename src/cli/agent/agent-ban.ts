import { agentService } from '../../wire/generated/server-agent.ts'
import { encodeSpiffeId } from '../../wire/spiffe-id-codec.ts'
import { withServer } from '../channel-call.ts'
import { defineCommand } from '../command.ts'
import { formatJson } from '../json-output.ts'
import { outputFlag, serverFlags } from '../socket-path.ts'
import { agentIdFlag, requireAgentId } from './agent-id.ts'

export const agentBan = defineCommand({
  flags: { spiffeID: agentIdFlag, ...serverFlags, output: outputFlag },
  details: 'Its SVID is refused from now on and it cannot attest again, until the record is evicted.',
  examples: ['assay agent ban -spiffeID spiffe://example.org/spire/agent/join_token/1234'],
  async run (call) {
    const { flags, terminal } = call
    const id = encodeSpiffeId(requireAgentId(flags.spiffeID))
    await withServer(call, channel => channel.client(agentService).banAgent({ id }, { signal: terminal.signal }))
    terminal.out(flags.output === 'json' ? `${formatJson({})}\n` : 'Agent banned successfully\n')
    return 0
  }
})
