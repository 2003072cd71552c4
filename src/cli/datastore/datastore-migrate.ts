import { silentLogger } from '../../runtime/logger.ts'
import { defineCommand } from '../command.ts'
import { pathFlag, textFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { usage } from '../parse-flags.ts'
import { formatRows, printable } from '../pretty.ts'
import { outputFlag } from '../socket-path.ts'
import { chooseDatastore, datastoreFlags, openRowProgress } from './datastore-flags.ts'
import { planHandover } from './hand-over-keys.ts'
import { chooseTarget } from './migration-target.ts'

export const datastoreMigrate = defineCommand({
  flags: {
    ...datastoreFlags,
    to: textFlag('address of an empty database: postgres://…, or a path for SQLite', { placeholder: 'URL' }),
    toConfig: pathFlag('configuration of the servers to come, in place of -to: its database, and its key manager "database"'),
    keyEncryptionKeyFile: pathFlag('take the keys of the key manager "disk" along, wrapped under the key in this file'),
    output: outputFlag
  },
  details: 'Stop every server before. The old database is only read; what arrived in the new one is compared with it before it counts.\n' +
    'Several servers need keys that all of them have. With -toConfig they are wrapped by whatever its key manager "database" names: a\n' +
    'file, a credential, AWS KMS, Vault or a PKCS#11 token. With -to and -keyEncryptionKeyFile name that key manager afterwards.',
  examples: [
    'assay datastore migrate -config server.yaml -toConfig servers.yaml',
    'assay datastore migrate -config server.yaml --to postgres://assay@db/assay -keyEncryptionKeyFile /etc/assay/kek',
    'assay datastore migrate -config server.yaml --to postgres://assay@db/assay',
    'assay datastore migrate -datastore postgres://assay@db/assay --to /var/lib/assay/server/datastore.sqlite3'
  ],
  async run ({ flags, terminal }) {
    const target = await chooseTarget(flags, terminal)
    const chosen = await chooseDatastore(flags, terminal)
    const { url } = chosen
    const trustDomain = chosen.trustDomain ?? target.trustDomain
    if (target.trustDomain !== undefined && target.trustDomain !== trustDomain) {
      throw usage(`${flags.toConfig} is of ${target.trustDomain}, and what is to move is of ${trustDomain}`)
    }
    const { handover, next: aboutKeys } = await planHandover(chosen, target, silentLogger)
    const { copyDatastore } = await import('../../storage/backup/copy-datastore.ts')
    using progress = openRowProgress(terminal)
    const { from, to, counts, epoch } = await copyDatastore({
      from: url, to: target.url, trustDomain, handover, now: new Date(), log: silentLogger, signal: terminal.signal, onRows: progress.onRows
    })
    const rows = Object.values(counts).reduce((sum, count) => sum + count, 0)
    const next = [
      target.next,
      ...aboutKeys === undefined ? [] : [aboutKeys],
      'keep the old database until the new one has been backed up, then delete it'
    ]
    terminal.out(flags.output === 'json'
      ? `${formatJson({ from, to, epoch, counts: new Map(Object.entries(counts)), next })}\n`
      : `${formatRows([['From', from], ['To', to]], 5)}${rows} rows copied and compared: both databases hold the same.\n` +
        next.map(step => `  next: ${printable(step)}\n`).join(''))
    return 0
  }
})
