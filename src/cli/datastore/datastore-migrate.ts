import { silentLogger } from '../../runtime/logger.ts'
import { defineCommand } from '../command.ts'
import { pathFlag, textFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { usage } from '../parse-flags.ts'
import { formatRows, printable } from '../pretty.ts'
import { outputFlag } from '../socket-path.ts'
import { chooseDatastore, datastoreFlags, openRowProgress } from './datastore-flags.ts'
import { planHandover } from './hand-over-keys.ts'

export const datastoreMigrate = defineCommand({
  flags: {
    ...datastoreFlags,
    to: textFlag('address of an empty database: postgres://…, or a path for SQLite', { placeholder: 'URL' }),
    keyEncryptionKeyFile: pathFlag('take the keys of the key manager "disk" along, wrapped under the key in this file'),
    output: outputFlag
  },
  details: 'Stop every server before. The old database is only read; what arrived in the new one is compared with it before it counts.\n' +
    'Several servers need keys that all of them have: give -keyEncryptionKeyFile, and use the key manager "database" afterwards.',
  examples: [
    'assay datastore migrate -config server.yaml --to postgres://assay@db/assay -keyEncryptionKeyFile /etc/assay/kek',
    'assay datastore migrate -config server.yaml --to postgres://assay@db/assay',
    'assay datastore migrate -datastore postgres://assay@db/assay --to /var/lib/assay/server/datastore.sqlite3'
  ],
  async run ({ flags, terminal }) {
    const { to } = flags
    if (to === undefined) throw usage('-to is required: the address of the database to move into')
    const chosen = await chooseDatastore(flags, terminal)
    const { url, trustDomain } = chosen
    const { handover, next: aboutKeys } = await planHandover(chosen, to, flags.keyEncryptionKeyFile, silentLogger)
    const { copyDatastore } = await import('../../storage/backup/copy-datastore.ts')
    using progress = openRowProgress(terminal)
    const { from, to: target, counts, epoch } = await copyDatastore({
      from: url, to, trustDomain, handover, now: new Date(), log: silentLogger, signal: terminal.signal, onRows: progress.onRows
    })
    const rows = Object.values(counts).reduce((sum, count) => sum + count, 0)
    const next = [
      'set datastore_url to the new address, and start the server',
      ...aboutKeys === undefined ? [] : [aboutKeys],
      'keep the old database until the new one has been backed up, then delete it'
    ]
    terminal.out(flags.output === 'json'
      ? `${formatJson({ from, to: target, epoch, counts: new Map(Object.entries(counts)), next })}\n`
      : `${formatRows([['From', from], ['To', target]], 5)}${rows} rows copied and compared: both databases hold the same.\n` +
        next.map(step => `  next: ${printable(step)}\n`).join(''))
    return 0
  }
})
