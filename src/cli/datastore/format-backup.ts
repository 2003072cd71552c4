import type { BackupHeader } from '../../storage/backup/backup-header.ts'
import type { RestoreReport } from '../../storage/backup/restore-datastore.ts'
import { counted, formatRows, formatTime } from '../pretty.ts'
import type { KeyPlace } from './datastore-flags.ts'

const width = 12

/** What a backup is and holds. */
export function formatBackup (file: string, header: BackupHeader): string {
  return formatRows([
    ['Backup', file],
    ['Taken', `${formatTime(header.takenAt)} by version ${header.version} of a ${databases[header.database]} database`],
    ['Trust domain', header.trustDomain === '' ? 'not known yet' : header.trustDomain],
    ['Holds', formatHolding(header)],
    ['Log', `number ${header.number} of epoch ${header.epoch}; schema ${header.schema}`]
  ], width)
}

function formatHolding ({ counts }: BackupHeader): string {
  const count = (table: string) => counts[table] ?? 0
  return [
    counted(count('entries'), 'entry', 'entries'),
    counted(count('agents'), 'agent', 'agents'),
    counted(count('bundles'), 'bundle', 'bundles'),
    counted(count('authorities'), 'authority', 'authorities'),
    counted(count('wrapped_keys'), 'wrapped key', 'wrapped keys')
  ].join(', ')
}

const databases: Readonly<Record<BackupHeader['database'], string>> = { sqlite: 'SQLite', postgres: 'PostgreSQL' }

export function headerFacts ({ counts, ...header }: BackupHeader): Record<string, unknown> {
  return { ...header, counts: new Map(Object.entries(counts)) }
}

/** What else must be kept, so that the backup is worth something. */
export function adviseOnSaving (header: BackupHeader, keys: KeyPlace | undefined): string {
  if (keys?.kind === 'memory') return 'the private keys are in memory: a restored server makes new authorities that no agent knows'
  if (keys?.kind === 'database' || (keys === undefined && hasKeys(header))) {
    return 'the private keys are in it, wrapped: keep the key-encryption key elsewhere, without it they are lost'
  }
  const file = keys?.path ?? 'the key manager\'s keys.json'
  return `the private keys are not in it: save ${file} beside it now, and again with each backup`
}

/** What must be done about private keys before a server starts on what was restored. */
export function adviseOnRestoring ({ backup, kind, identities }: RestoreReport, keys: KeyPlace | undefined): string {
  if (identities === 'kept') return 'leave the private keys as they are: authorities stayed as they were'
  if (hasKeys(backup)) return 'the server needs the key-encryption key that was in use when the backup was taken'
  if (backup.database !== kind) {
    return 'its private keys are in keys.json, and belong to the other kind of database: agents know these authorities only if the ' +
      'backup is restored to that kind, and moved with `assay datastore migrate`'
  }
  const file = keys?.kind === 'file' ? keys.path : 'the key manager\'s keys.json'
  return `put the keys.json that was saved with this backup in place as ${file}; without it the server makes new authorities ` +
    'that no agent knows: each must join anew'
}

function hasKeys ({ counts }: BackupHeader): boolean { return (counts['wrapped_keys'] ?? 0) > 0 }
