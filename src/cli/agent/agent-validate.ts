import { defineCommand } from '../command.ts'
import { agentConfigFlags, readAgentConfig } from './agent-config-flags.ts'

export const agentValidate = defineCommand({
  flags: agentConfigFlags,
  examples: ['assay agent validate -config agent.yaml'],
  async run ({ flags, terminal }) {
    await readAgentConfig(flags, terminal)
    terminal.out(`${terminal.program === 'assay' ? 'Assay' : 'SPIRE'} agent configuration file is valid.\n`)
    return 0
  }
})
