import { agentService } from '../../wire/generated/server-agent.ts'
import { encodeSpiffeId } from '../../wire/spiffe-id-codec.ts'
import { withServer } from '../channel-call.ts'
import { defineCommand } from '../command.ts'
import { secondsFlag, spiffeIdFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { outputFlag, serverFlags } from '../socket-path.ts'

export const tokenGenerate = defineCommand({
  flags: {
    spiffeID: spiffeIdFlag('a further ID for the agent that joins, to be the parent of entries'),
    ttl: secondsFlag('how long the token may be used', '600'),
    ...serverFlags,
    output: outputFlag
  },
  details: 'The token is a secret: whoever has it can join once as a node. Give it to the agent as join_token_file rather than as a flag.',
  examples: ['assay token generate -spiffeID spiffe://example.org/node-1', 'assay token generate -ttl 5m --output json'],
  async run (call) {
    const { flags, terminal } = call
    const agentId = flags.spiffeID && encodeSpiffeId(flags.spiffeID)
    const token = await withServer(call, channel =>
      channel.client(agentService).createJoinToken({ ttl: flags.ttl ?? 600, agentId }, { signal: terminal.signal }))
    if (flags.output === 'json') {
      terminal.out(`${formatJson(token)}\n`)
      return 0
    }
    terminal.out(`Token: ${token.value}\n`)
    if (agentId === undefined) (terminal.program === 'assay' ? terminal.err : terminal.out)('Warning: Missing SPIFFE ID.\n')
    return 0
  }
})
