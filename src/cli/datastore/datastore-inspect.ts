import { statSync } from 'node:fs'
import { defineCommand } from '../command.ts'
import { formatJson } from '../json-output.ts'
import { outputFlag } from '../socket-path.ts'
import { openRowProgress } from './datastore-flags.ts'
import { formatBackup, headerFacts } from './format-backup.ts'

export const datastoreInspect = defineCommand({
  flags: { output: outputFlag },
  argument: { name: 'FILE' },
  details: 'Reads all of it and compares the checksum. That tells damage, not forgery: keep backups where only you can write.',
  examples: ['assay datastore inspect /backup/assay-2026-01-31', 'assay datastore inspect --output json /backup/assay-2026-01-31'],
  async run ({ flags, argument: file, terminal }) {
    const { readContents } = await import('../../storage/backup/backup-contents.ts')
    using progress = openRowProgress(terminal)
    const { header } = await readContents(file, terminal.signal, progress.onRows)
    terminal.out(flags.output === 'json'
      ? `${formatJson({ file, bytes: statSync(file).size, intact: true, ...headerFacts(header) })}\n`
      : `${formatBackup(file, header)}Checksum    : intact\n`)
    return 0
  }
})
