import { systemClock } from '../../runtime/clock.ts'
import { serverConfigWarnings } from '../../server/server-config.ts'
import { loadApiPolicy } from '../../server/load-api-policy.ts'
import { defineCommand } from '../command.ts'
import { readServerConfig, serverConfigFlags } from './server-config-flags.ts'

export const serverValidate = defineCommand({
  flags: serverConfigFlags,
  examples: ['assay server validate -config server.yaml'],
  async run ({ flags, terminal }) {
    const config = await readServerConfig(flags, terminal)
    await using scope = new AsyncDisposableStack()
    const { warnings } = await loadApiPolicy(config, systemClock, scope)
    for (const warning of [...serverConfigWarnings(config), ...warnings]) terminal.err(`Warning: ${warning}\n`)
    terminal.out(`${terminal.program === 'assay' ? 'Assay' : 'SPIRE'} server configuration file is valid.\n`)
    return 0
  }
})
