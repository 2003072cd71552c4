import { agentService } from '../../wire/generated/server-agent.ts'
import { encodeSpiffeId } from '../../wire/spiffe-id-codec.ts'
import { withServer } from '../channel-call.ts'
import { defineCommand } from '../command.ts'
import { formatJson } from '../json-output.ts'
import { outputFlag, serverFlags } from '../socket-path.ts'
import { agentIdFlag, requireAgentId } from './agent-id.ts'
import { formatAgent } from './format-agent.ts'

export const agentShow = defineCommand({
  flags: { spiffeID: agentIdFlag, ...serverFlags, output: outputFlag },
  examples: ['assay agent show -spiffeID spiffe://example.org/spire/agent/join_token/1234'],
  async run (call) {
    const { flags, terminal } = call
    const id = encodeSpiffeId(requireAgentId(flags.spiffeID))
    const agent = await withServer(call, channel => channel.client(agentService).getAgent({ id }, { signal: terminal.signal }))
    if (flags.output === 'json') terminal.out(`${formatJson(agent)}\n`)
    else terminal.out(`Found an attested agent given its SPIFFE ID\n\n${formatAgent(agent, { selectors: true })}`)
    return 0
  }
})
