import { agentService } from '../../wire/generated/server-agent.ts'
import { withServer } from '../channel-call.ts'
import { defineCommand } from '../command.ts'
import { formatJson } from '../json-output.ts'
import { counted } from '../pretty.ts'
import { outputFlag, serverFlags } from '../socket-path.ts'
import { agentFilterFlags, agentFilterOf } from './agent-filter.ts'

export const agentCount = defineCommand({
  flags: { ...agentFilterFlags, ...serverFlags, output: outputFlag },
  examples: ['assay agent count', 'assay agent count -attestationType join_token'],
  async run (call) {
    const { flags, terminal } = call
    const { count } = await withServer(call, channel =>
      channel.client(agentService).countAgents({ filter: agentFilterOf(flags) }, { signal: terminal.signal }))
    terminal.out(`${flags.output === 'json' ? formatJson({ count }) : counted(count, 'attested agent', 'attested agents')}\n`)
    return 0
  }
})
