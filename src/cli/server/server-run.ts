import { serverConfigWarnings } from '../../server/server-config.ts'
import { defineCommand } from '../command.ts'
import { reconfigureSignal } from '../reconfigure-signal.ts'
import { openLog } from '../open-log.ts'
import { readServerConfig, serverConfigFlags } from './server-config-flags.ts'

export const serverRun = defineCommand({
  flags: serverConfigFlags,
  details: 'The first SIGINT or SIGTERM lets calls end, the second ends the process at once.\n' +
    'The keys are described in docs/configuration.md.',
  examples: [
    'assay server run -config server.yaml',
    'assay server run -trustDomain example.org -dataDir /var/lib/assay/server'
  ],
  async run ({ flags, terminal }) {
    const config = await readServerConfig(flags, terminal)
    const log = openLog(config, terminal.signal)
    for (const note of config.notes) log.info(note)
    for (const warning of serverConfigWarnings(config)) log.warn(warning)
    const { runServer } = await import('../../server/server.ts')
    await runServer(config, terminal.signal, { log, onReconfigure: reconfigureSignal(terminal.signal) })
    return 0
  }
})
