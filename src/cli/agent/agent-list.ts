import { agentService } from '../../wire/generated/server-agent.ts'
import { withServer } from '../channel-call.ts'
import { defineCommand } from '../command.ts'
import { formatJson } from '../json-output.ts'
import { allPages, pageSize } from '../paged.ts'
import { counted } from '../pretty.ts'
import { outputFlag, serverFlags } from '../socket-path.ts'
import { agentFilterFlags, agentFilterOf } from './agent-filter.ts'
import { formatAgent } from './format-agent.ts'

export const agentList = defineCommand({
  flags: { ...agentFilterFlags, ...serverFlags, output: outputFlag },
  examples: ['assay agent list', 'assay agent list -banned', 'assay agent list -expiresBefore 2026-12-31T00:00:00Z --output json'],
  async run (call) {
    const { flags, terminal } = call
    const filter = agentFilterOf(flags)
    const agents = await withServer(call, channel => allPages(terminal, 'agents', async pageToken => {
      const request = { filter, pageSize, pageToken }
      const { agents: items, nextPageToken } = await channel.client(agentService).listAgents(request, { signal: terminal.signal })
      return { items, nextPageToken }
    }))
    if (flags.output === 'json') {
      terminal.out(`${formatJson({ agents, nextPageToken: '' })}\n`)
    } else if (agents.length === 0) {
      terminal.out('No attested agents found\n')
    } else {
      const blocks = agents.map(agent => formatAgent(agent, { selectors: false })).join('')
      terminal.out(`Found ${counted(agents.length, 'attested agent', 'attested agents')}:\n\n${blocks}`)
    }
    return 0
  }
})
