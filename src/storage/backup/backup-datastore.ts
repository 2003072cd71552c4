import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import type { Transaction } from 'kysely'
import { writeFileAtomically } from '../../runtime/atomic-file.ts'
import type { Logger } from '../../runtime/logger.ts'
import { version } from '../../runtime/version.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { Schema } from '../sql/schema.ts'
import { formatHeader, type BackupHeader } from './backup-header.ts'
import { formatTrailer } from './backup-lines.ts'
import { openToRead, requireSchema, type OpenDatabase } from './open-database.ts'
import { readTrustDomain, requireSameTrustDomain } from './own-trust-domain.ts'
import { formatRows, type OnRows, type RowChunk } from './row.ts'
import { countRows, readRows } from './table-rows.ts'
import { savedTables } from './tables.ts'
import { newestSchema } from '../migrations/migrate.ts'

export interface BackupOptions {
  readonly url: string
  readonly file: string
  /** Where it is known from elsewhere. */
  readonly trustDomain?: string | undefined
  readonly now: Date
  readonly log: Logger
  readonly signal: AbortSignal
  readonly onRows?: OnRows | undefined
}

/**
 * Writes one state of the database to a new file (0600), which is there as a whole or not at all. Servers go on meanwhile.
 * @throws {SpiffeError} `file_unusable` when the file exists, `datastore_*`, `trust_domain_differs`
 */
export async function backupDatastore ({ url, file, trustDomain, now, log, signal, onRows }: BackupOptions): Promise<BackupHeader> {
  // It may be the database itself.
  if (existsSync(file)) throw new SpiffeError('file_unusable', `${file} exists already`)
  await using source = await openToRead(url, log)
  return await source.database.snapshot(async trx => {
    await requireSchema(trx, source)
    const header = await readHeader(trx, source, trustDomain, now)
    let failure: unknown
    const lines = noting(formatBackup(header, readTables(trx, source, signal), onRows), error => { failure = error })
    try {
      await writeFileAtomically(file, lines, { mode: 0o600 })
    } catch (error) {
      if (error === failure) throw error
      // What else a writer fails with is the file's fault.
      throw new SpiffeError('file_unusable', `cannot write ${file}: ${(error as Error).message}`, { cause: error })
    }
    return header
  })
}

async function * noting<T> (items: AsyncIterable<T>, onFailure: (error: unknown) => void): AsyncGenerator<T> {
  try {
    yield * items
  } catch (error) {
    onFailure(error)
    throw error
  }
}

async function readHeader (
  trx: Transaction<Schema>, { database: { kind } }: OpenDatabase, expected: string | undefined, now: Date
): Promise<BackupHeader> {
  const found = await readTrustDomain(trx)
  requireSameTrustDomain({ configuration: expected, database: found })
  const { epoch, number } = await trx.selectFrom('log_head').select(['epoch', 'number']).executeTakeFirstOrThrow()
  const counts: Record<string, number> = {}
  for (const table of savedTables) counts[table.name] = await countRows(trx, table)
  return { schema: newestSchema, trustDomain: found || (expected ?? ''), epoch, number, takenAt: now, version, database: kind, counts }
}

type Part = RowChunk | string

async function * readTables (trx: Transaction<Schema>, { database }: OpenDatabase, signal: AbortSignal): AsyncGenerator<Part> {
  for (const table of savedTables) {
    yield `${JSON.stringify({ table: table.name, columns: Object.keys(table.columns) })}\n`
    for await (const chunk of readRows(trx, database.kind, table)) {
      signal.throwIfAborted()
      yield chunk
    }
  }
}

async function * formatBackup (header: BackupHeader, parts: AsyncIterable<Part>, onRows: OnRows | undefined): AsyncGenerator<string> {
  const hash = createHash('sha256')
  const total = Object.values(header.counts).reduce((sum, count) => sum + count, 0)
  let done = 0
  const first = formatHeader(header)
  hash.update(first)
  yield first
  for await (const part of parts) {
    const text = typeof part === 'string' ? part : formatRows(part.rows)
    hash.update(text)
    yield text
    if (typeof part === 'string') continue
    done += part.rows.length
    onRows?.('saved', done, total)
  }
  yield formatTrailer(hash)
}
