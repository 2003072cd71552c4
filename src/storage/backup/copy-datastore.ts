import { createHash } from 'node:crypto'
import type { Transaction } from 'kysely'
import type { Logger } from '../../runtime/logger.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { Schema } from '../sql/schema.ts'
import { openToLeave, openToOverwrite, requireIdle, requireSchema, type OpenDatabase } from './open-database.ts'
import { beginNewLife, claim, isEmpty } from './overwrite.ts'
import { readTrustDomain, requireSameTrustDomain } from './own-trust-domain.ts'
import { formatRows, type OnRows, type RowChunk } from './row.ts'
import { continueNumbering, countRows, insertRows, readRows } from './table-rows.ts'
import { tables, type TableSpec } from './tables.ts'

/** What the copy says differently, so that the authorities find their keys there. */
export interface KeyHandover {
  /** Authorities of one owner become another's; see `AuthorityTable.owner`. */
  readonly owner?: { readonly from: string, readonly to: string }
  /** Keys that were elsewhere. */
  readonly wrappedKeys?: ReadonlyMap<string, Uint8Array>
}

export interface CopyOptions {
  readonly from: string
  /** Of an empty database. */
  readonly to: string
  /** Where it is known from elsewhere. */
  readonly trustDomain?: string | undefined
  readonly handover?: KeyHandover
  readonly now: Date
  readonly log: Logger
  readonly signal: AbortSignal
  readonly onRows?: OnRows | undefined
}

export interface CopyResult {
  readonly from: string
  readonly to: string
  /** Rows by table, equal on both sides. */
  readonly counts: Readonly<Record<string, number>>
  readonly epoch: string
}

/**
 * Copies a database into an empty one of either kind, and compares what arrived: all in one transaction. The source is only read, and no
 * server may use it, since what is written after the copy would be lost.
 * @throws {SpiffeError} `datastore_in_use`, `datastore_not_empty`, `datastore_copy_differs`, `datastore_*`, `trust_domain_differs`,
 *   `file_unusable`
 */
export async function copyDatastore (options: CopyOptions): Promise<CopyResult> {
  const { from, to, trustDomain, log } = options
  await using source = await openToLeave(from, log)
  return await source.database.snapshot(async reading => {
    await requireSchema(reading, source)
    await requireIdle(reading, source)
    requireSameTrustDomain({ configuration: trustDomain, database: await readTrustDomain(reading) })
    await using target = await openToOverwrite(to, log)
    return await target.database.once(async writing => {
      await claim(writing, target)
      if (!await isEmpty(writing)) {
        throw new SpiffeError('datastore_not_empty', `${target.name} is not empty; a database moves into an empty one only`)
      }
      return await copy({ trx: reading, ...source }, { trx: writing, ...target }, options)
    })
  })
}

type Side = Pick<OpenDatabase, 'database' | 'name'> & { readonly trx: Transaction<Schema> }

/** Leases get new tokens; nobody holds one. */
const copied = tables.filter(({ role }) => role !== 'leases')

async function copy (source: Side, target: Side, { now, handover = {}, onRows, signal }: CopyOptions): Promise<CopyResult> {
  const counts: Record<string, number> = {}
  for (const table of copied) counts[table.name] = await countRows(source.trx, table)
  const total = Object.values(counts).reduce((sum, count) => sum + count, 0)
  const digests = new Map<string, string>()
  const copying = counter('copied', total, onRows)
  for (const table of copied) {
    digests.set(table.name, await digestRows(source, table, async chunk => {
      signal.throwIfAborted()
      await insertRows(target.trx, chunk)
      copying(chunk.rows.length)
    }))
  }
  const verifying = counter('verified', total, onRows)
  for (const table of copied) {
    const digest = await digestRows(target, table, async ({ rows }) => {
      signal.throwIfAborted()
      verifying(rows.length)
    })
    if (digest === digests.get(table.name) && await countRows(target.trx, table) === counts[table.name]) continue
    throw new SpiffeError('datastore_copy_differs', `table ${table.name} of ${target.name} is not what ${source.name} holds`)
  }
  await continueNumbering(target.trx, target.database.kind, copied)
  await handOver(target.trx, handover)
  const head = await source.trx.selectFrom('log_head').select(['epoch', 'number']).executeTakeFirstOrThrow()
  const leases = await source.trx.selectFrom('leases').selectAll().execute()
  const epoch = await beginNewLife(target.trx, { kind: target.database.kind, ...head, leases, now })
  return { from: source.name, to: target.name, counts, epoch }
}

async function handOver (trx: Transaction<Schema>, { owner, wrappedKeys = new Map() }: KeyHandover): Promise<void> {
  if (owner !== undefined) {
    // What an upstream is trusted for is nobody's own.
    await trx.updateTable('authorities').set({ owner: owner.to })
      .where('owner', '=', owner.from).where('kind', 'in', ['x509', 'jwt']).execute()
  }
  for (const [id, wrapped] of wrappedKeys) {
    await trx.insertInto('wrapped_keys').values({ id, wrapped })
      .onConflict(conflict => conflict.column('id').doUpdateSet({ wrapped })).execute()
  }
}

/** Both databases give the rows in the same order. */
async function digestRows (
  { trx, database }: Side, table: TableSpec, take: (chunk: RowChunk) => Promise<void>
): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of readRows(trx, database.kind, table)) {
    await take(chunk)
    hash.update(formatRows(chunk.rows))
  }
  return hash.digest('hex')
}

function counter (what: Parameters<OnRows>[0], total: number, onRows: OnRows | undefined): (rows: number) => void {
  let done = 0
  return rows => {
    done += rows
    onRows?.(what, done, total)
  }
}
