import { silentLogger } from '../../runtime/logger.ts'
import { defineCommand } from '../command.ts'
import { switchFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { outputFlag } from '../socket-path.ts'
import { chooseDatastore, datastoreFlags, openRowProgress } from './datastore-flags.ts'
import { adviseOnRestoring } from './format-backup.ts'
import { formatReport, reportFacts } from './format-report.ts'

export const datastoreRestore = defineCommand({
  flags: {
    ...datastoreFlags,
    force: switchFlag('overwrite a database that is not empty'),
    discardRevocations: switchFlag('trust again whom the database has banned, evicted, tainted or revoked since'),
    output: outputFlag
  },
  argument: { name: 'FILE' },
  details: 'First tells what has changed in the database since the backup. Unless that is empty, -force is needed to go on.\n' +
    'Then all is restored, or nothing. Stop every server before. Who was banned, evicted, tainted or revoked since stays so.',
  examples: [
    'assay datastore restore -config server.yaml /backup/assay-2026-01-31',
    'assay datastore restore -config server.yaml -force /backup/assay-2026-01-31'
  ],
  async run ({ flags, argument: file, terminal }) {
    const { url, trustDomain, keys } = await chooseDatastore(flags, terminal)
    const { restoreDatastore } = await import('../../storage/backup/restore-datastore.ts')
    const json = flags.output === 'json'
    let advice = ''
    using progress = openRowProgress(terminal)
    const epoch = await restoreDatastore({
      url,
      file,
      trustDomain,
      force: flags.force,
      discardRevocations: flags.discardRevocations,
      now: new Date(),
      log: silentLogger,
      signal: terminal.signal,
      onRows: progress.onRows,
      onReport (report) {
        advice = adviseOnRestoring(report, keys)
        terminal.out(json ? `${formatJson({ report: reportFacts(report) })}\n` : formatReport(file, report))
      }
    })
    terminal.out(json
      ? `${formatJson({ restored: { epoch, keys: advice } })}\n`
      : `Restored. The log begins epoch ${epoch}: servers and agents read everything anew.\nBefore a server starts: ${advice}.\n`)
    return 0
  }
})
