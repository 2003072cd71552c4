import { withAgent } from '../channel-call.ts'
import { defineCommand } from '../command.ts'
import { checkHealth, healthcheckFlags } from '../healthcheck.ts'
import { agentFlags } from '../socket-path.ts'

export const agentHealthcheck = defineCommand({
  flags: { ...healthcheckFlags, ...agentFlags },
  examples: ['assay agent healthcheck', 'assay agent healthcheck -verbose -socketPath /run/assay/agent.sock'],
  run: call => checkHealth('agent', call.flags, call.terminal, use => withAgent(call, use))
})
