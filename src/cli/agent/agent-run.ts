import { defineCommand } from '../command.ts'
import { reconfigureSignal } from '../reconfigure-signal.ts'
import { openLog } from '../open-log.ts'
import { agentConfigFlags, readAgentConfig } from './agent-config-flags.ts'

export const agentRun = defineCommand({
  flags: agentConfigFlags,
  details: 'The first SIGINT or SIGTERM lets calls end, the second ends the process at once.\n' +
    'The keys are described in docs/configuration.md.',
  examples: [
    'assay agent run -config agent.yaml',
    'assay agent run -trustDomain example.org -serverAddress server.internal -serverPort 8081 -trustBundle bundle.pem -joinTokenFile token'
  ],
  async run ({ flags, terminal }) {
    const config = await readAgentConfig(flags, terminal)
    const log = openLog(config, terminal.signal)
    const { runAgent } = await import('../../agent/agent.ts')
    await runAgent(config, terminal.signal, { log, onReconfigure: reconfigureSignal(terminal.signal) })
    return 0
  }
})
