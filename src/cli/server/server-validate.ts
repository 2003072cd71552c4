import { validatePrograms } from '../../pluginhost/validate-programs.ts'
import { systemClock } from '../../runtime/clock.ts'
import { createLogger } from '../../runtime/logger.ts'
import { serverConfigWarnings } from '../../server/server-config.ts'
import { loadApiPolicy } from '../../server/load-api-policy.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { defineCommand } from '../command.ts'
import { readServerConfig, serverConfigFlags } from './server-config-flags.ts'

export const serverValidate = defineCommand({
  flags: serverConfigFlags,
  details: 'Programs that are plugins are started, asked what is wrong with their configuration, and ended.',
  examples: ['assay server validate -config server.yaml'],
  async run ({ flags, terminal }) {
    const config = await readServerConfig(flags, terminal)
    await using scope = new AsyncDisposableStack()
    const { warnings } = await loadApiPolicy(config, systemClock, scope)
    const log = createLogger({ level: 'silent' })
    const host = { trustDomain: config.trustDomain, clock: systemClock, log }
    const problems = await validatePrograms(config.plugins, host, terminal.signal)
    if (problems.length > 0) throw new SpiffeError('config_invalid', problems.join('\n'))
    for (const note of config.notes) terminal.err(`Note: ${note}\n`)
    for (const warning of [...serverConfigWarnings(config), ...warnings]) terminal.err(`Warning: ${warning}\n`)
    terminal.out(`${terminal.program === 'assay' ? 'Assay' : 'SPIRE'} server configuration file is valid.\n`)
    return 0
  }
})
