import { statSync } from 'node:fs'
import { silentLogger } from '../../runtime/logger.ts'
import { defineCommand } from '../command.ts'
import { formatJson } from '../json-output.ts'
import { outputFlag } from '../socket-path.ts'
import { chooseDatastore, datastoreFlags, openRowProgress } from './datastore-flags.ts'
import { adviseOnSaving, formatBackup, headerFacts } from './format-backup.ts'

export const datastoreBackup = defineCommand({
  flags: { ...datastoreFlags, output: outputFlag },
  argument: { name: 'FILE' },
  details: 'The server may go on running: the backup is one state of the database. FILE must not exist; it appears as a whole.\n' +
    'Whoever can read it knows every entry and, with the key-encryption key, every private key; join tokens are not in it.',
  examples: [
    'assay datastore backup -config server.yaml /backup/assay-2026-01-31',
    'assay datastore backup -datastore postgres://assay@db/assay /backup/assay-2026-01-31'
  ],
  async run ({ flags, argument: file, terminal }) {
    const { url, trustDomain, keys } = await chooseDatastore(flags, terminal)
    const { backupDatastore } = await import('../../storage/backup/backup-datastore.ts')
    using progress = openRowProgress(terminal)
    const header = await backupDatastore({
      url, file, trustDomain, now: new Date(), log: silentLogger, signal: terminal.signal, onRows: progress.onRows
    })
    const { size } = statSync(file)
    const advice = adviseOnSaving(header, keys)
    terminal.out(flags.output === 'json'
      ? `${formatJson({ file, bytes: size, keys: advice, ...headerFacts(header) })}\n`
      : `${formatBackup(file, header)}Keys        : ${advice}\n`)
    return 0
  }
})
