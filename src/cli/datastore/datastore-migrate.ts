import { silentLogger } from '../../runtime/logger.ts'
import { defineCommand } from '../command.ts'
import { textFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { usage } from '../parse-flags.ts'
import { formatRows, printable } from '../pretty.ts'
import { outputFlag } from '../socket-path.ts'
import { chooseDatastore, datastoreFlags, openRowProgress } from './datastore-flags.ts'

export const datastoreMigrate = defineCommand({
  flags: {
    ...datastoreFlags,
    to: textFlag('address of an empty database: postgres://…, or a path for SQLite', { placeholder: 'URL' }),
    output: outputFlag
  },
  details: 'Stop every server before. The old database is only read; what arrived in the new one is compared with it before it counts.\n' +
    'Afterwards set datastore_url to the new address.',
  examples: [
    'assay datastore migrate -config server.yaml --to postgres://assay@db/assay',
    'assay datastore migrate -datastore postgres://assay@db/assay --to /var/lib/assay/server/datastore.sqlite3'
  ],
  async run ({ flags, terminal }) {
    const { to } = flags
    if (to === undefined) throw usage('-to is required: the address of the database to move into')
    const { url, trustDomain, keys } = await chooseDatastore(flags, terminal)
    const { copyDatastore } = await import('../../storage/backup/copy-datastore.ts')
    using progress = openRowProgress(terminal)
    const { from, to: target, counts, epoch } = await copyDatastore({
      from: url, to, trustDomain, now: new Date(), log: silentLogger, signal: terminal.signal, onRows: progress.onRows
    })
    const rows = Object.values(counts).reduce((sum, count) => sum + count, 0)
    const next = nextSteps(keys?.kind, to)
    terminal.out(flags.output === 'json'
      ? `${formatJson({ from, to: target, epoch, counts: new Map(Object.entries(counts)), next })}\n`
      : `${formatRows([['From', from], ['To', target]], 5)}${rows} rows copied and compared: both databases hold the same.\n` +
        next.map(step => `  next: ${printable(step)}\n`).join(''))
    return 0
  }
})

function nextSteps (keys: string | undefined, to: string): string[] {
  const shared = /^postgres(ql)?:/.test(to)
  return [
    'set datastore_url to the new address, and start the server',
    ...shared && keys === 'file'
      ? ['keys.json stays with this one server; before a second one, give all of them the key manager "database" (docs/operations.md)']
      : [],
    'keep the old database until the new one has been backed up, then delete it'
  ]
}
