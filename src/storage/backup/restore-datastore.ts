import type { Transaction } from 'kysely'
import type { Logger } from '../../runtime/logger.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { Schema } from '../sql/schema.ts'
import { isPostgresViolation } from '../postgres/postgres-errors.ts'
import { isSqliteViolation } from '../sqlite/sqlite-errors.ts'
import { formatHeader, type BackupHeader } from './backup-header.ts'
import { countedChunks, readContents, type BackupContents } from './backup-contents.ts'
import { compareWithBackup } from './compare.ts'
import { formatFinding, type Finding, type Identities } from './findings.ts'
import { openToOverwrite, type OpenDatabase } from './open-database.ts'
import { beginNewLife, birthOf, claim, isEmpty } from './overwrite.ts'
import { readTrustDomain, requireSameTrustDomain } from './own-trust-domain.ts'
import { applyRevocations, readOwnBundle, readRevocations, writeOwnBundle } from './revocations.ts'
import type { OnRows } from './row.ts'
import { continueNumbering, emptyTables, insertRows } from './table-rows.ts'
import { tables, type TableRole } from './tables.ts'

export interface RestoreOptions {
  readonly url: string
  readonly file: string
  /** Where it is known from elsewhere. */
  readonly trustDomain?: string | undefined
  /** Overwrite a database that holds something. */
  readonly force: boolean
  /** Trust again whom the database has banned, tainted or revoked since the backup. */
  readonly discardRevocations: boolean
  readonly now: Date
  readonly log: Logger
  readonly signal: AbortSignal
  /** Told before anything is written. */
  readonly onReport: (report: RestoreReport) => void
  readonly onRows?: OnRows | undefined
}

export interface RestoreReport {
  readonly backup: BackupHeader
  /** What to call the database. */
  readonly target: string
  readonly kind: 'sqlite' | 'postgres'
  readonly identities: Identities
  /** What the database says that the backup does not; none where it is empty. */
  readonly findings: readonly Finding[]
}

/**
 * Puts a backup in place of what a database holds: all of it in one transaction, or nothing.
 * @returns the new epoch of its log
 * @throws {SpiffeError} `backup_malformed`, `backup_newer`, `trust_domain_differs`, `datastore_in_use`, `datastore_not_empty`,
 *   `datastore_*`, `file_unusable`
 */
export async function restoreDatastore (options: RestoreOptions): Promise<string> {
  const { url, file, trustDomain, log, signal, onRows } = options
  const contents = await readContents(file, signal, onRows)
  requireSameTrustDomain({ configuration: trustDomain, backup: contents.header.trustDomain })
  await using target = await openToOverwrite(url, log)
  try {
    return await target.database.once(trx => restore(trx, target, contents, options))
  } catch (error) {
    if (!isPostgresViolation(error) && !isSqliteViolation(error)) throw error
    throw new SpiffeError('backup_malformed', `the rows of ${file} contradict each other: ${(error as Error).message}`, { cause: error })
  }
}

async function restore (
  trx: Transaction<Schema>, target: OpenDatabase, contents: BackupContents, options: RestoreOptions
): Promise<string> {
  const { file, force, discardRevocations, now, signal, onReport, onRows } = options
  const { header } = contents
  const { kind } = target.database
  await claim(trx, target)
  const found = await readTrustDomain(trx)
  requireSameTrustDomain({ database: found, backup: header.trustDomain })
  // A backup may be older than the first authority.
  const trustDomain = header.trustDomain || found
  const head = await trx.selectFrom('log_head').select(['epoch', 'number']).executeTakeFirstOrThrow()
  const empty = await isEmpty(trx)
  const later = birthOf(head.epoch) === birthOf(header.epoch)
  const identities = empty ? 'empty' : discardRevocations ? 'discarded' : later ? 'kept' : 'merged'
  const findings = identities === 'empty'
    ? []
    : (await compareWithBackup(trx, { file, contents, trustDomain, kind, now, signal, onRows })).told(identities)
  onReport({ backup: header, target: target.name, kind, identities, findings })
  if (!empty && !force) throw notEmpty(target, findings)
  const restoring: Restoring = { trx, kind, trustDomain, contents, options }
  if (identities === 'kept') await restoreRegistry(restoring)
  else await restoreAll(restoring, identities)
  return await beginNewLife(trx, {
    kind, epoch: header.epoch, number: Math.max(header.number, head.number), leases: contents.leases, now
  })
}

interface Restoring {
  readonly trx: Transaction<Schema>
  readonly kind: OpenDatabase['database']['kind']
  readonly trustDomain: string
  readonly contents: BackupContents
  readonly options: RestoreOptions
}

/** Agents, authorities, keys and the own bundle stay; what the backup has banned or revoked is so again. */
async function restoreRegistry (restoring: Restoring): Promise<void> {
  const { trx, kind, trustDomain, contents } = restoring
  const own = await readOwnBundle(trx, trustDomain)
  await emptyTables(trx, kind, namesOf(['registry']))
  await load(restoring, ['registry', 'issued', 'revocations'])
  if (own !== undefined) await writeOwnBundle(trx, own)
  await applyRevocations(trx, contents, trustDomain)
}

/** Far more than can have been published since the backup: partners take no bundle whose number is lower than one they have seen. */
const sequenceJump = 1_000_000n

async function restoreAll (restoring: Restoring, identities: Identities): Promise<void> {
  const { trx, kind, trustDomain } = restoring
  const revocations = identities === 'merged' ? await readRevocations(trx) : undefined
  const shown = (await readOwnBundle(trx, trustDomain))?.sequence_number
  const discarded: readonly TableRole[] = identities === 'discarded' ? ['revocations'] : []
  await emptyTables(trx, kind, namesOf(['registry', 'identities', 'tokens', ...discarded]))
  await load(restoring, ['registry', 'identities', 'issued', 'revocations'])
  if (revocations !== undefined) await applyRevocations(trx, revocations, trustDomain)
  const own = await readOwnBundle(trx, trustDomain)
  if (own === undefined) return
  const [now, before] = [own.sequence_number, shown].map(text => BigInt(text ?? 0)) as [bigint, bigint]
  await writeOwnBundle(trx, { ...own, sequence_number: String((now > before ? now : before) + sequenceJump) })
}

/** Rows of the backup come beside those that are there. */
const added: readonly TableRole[] = ['issued', 'revocations']

async function load (
  { trx, kind, contents: { header }, options: { file, signal, onRows } }: Restoring, roles: readonly TableRole[]
): Promise<void> {
  const sameFile = (found: BackupHeader) => {
    if (formatHeader(found) !== formatHeader(header)) throw new SpiffeError('backup_malformed', `${file} changed while it was read`)
  }
  for await (const chunk of countedChunks(file, 'restored', signal, onRows, sameFile)) {
    if (roles.includes(chunk.table.role)) await insertRows(trx, chunk, added.includes(chunk.table.role) ? 'keep' : 'refuse')
  }
  await continueNumbering(trx, kind, tables)
}

/** In the order in which they can be emptied. */
function namesOf (roles: readonly TableRole[]) {
  return tables.filter(({ role }) => roles.includes(role)).map(({ name }) => name).toReversed()
}

function notEmpty ({ name }: OpenDatabase, findings: readonly Finding[]): SpiffeError {
  const undone = findings.filter(({ outcome }) => outcome !== 'stays')
  const after = undone.length === 0 ? 'a restore would undo nothing' : `after the restore: ${undone.map(formatFinding).join('; ')}`
  return new SpiffeError('datastore_not_empty', `${name} is not empty; ${after}`,
    { details: { undone: undone.map(({ kind, outcome, total }) => ({ kind, outcome, total })) } })
}
