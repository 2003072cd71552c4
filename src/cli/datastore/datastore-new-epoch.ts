import { silentLogger } from '../../runtime/logger.ts'
import { defineCommand } from '../command.ts'
import { formatJson } from '../json-output.ts'
import { printable } from '../pretty.ts'
import { outputFlag } from '../socket-path.ts'
import { chooseDatastore, datastoreFlags } from './datastore-flags.ts'

export const datastoreNewEpoch = defineCommand({
  flags: { ...datastoreFlags, output: outputFlag },
  details: 'For a database that was set back by other tools than `assay datastore restore`, before a server starts on it: servers and\n' +
    'agents then read everything anew, and take no change for one that they have seen. Join tokens go: they may have been used.',
  examples: ['assay datastore new-epoch -config server.yaml', 'assay datastore new-epoch -datastore postgres://assay@db/assay'],
  async run ({ flags, terminal }) {
    const { url, trustDomain } = await chooseDatastore(flags, terminal)
    const { renewEpoch } = await import('../../storage/backup/renew-epoch.ts')
    const { epoch, target } = await renewEpoch({ url, trustDomain, now: new Date(), log: silentLogger })
    terminal.out(flags.output === 'json'
      ? `${formatJson({ epoch, target })}\n`
      : `The log of ${printable(target)} begins epoch ${epoch}.\n`)
    return 0
  }
})
