import { sql, type Kysely, type Transaction } from 'kysely'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { ChangedState, ChangeLog, Cursor, LogReading } from '../change-log.ts'
import type { Nudges } from '../nudges.ts'
import { timelineSql } from '../postgres/timeline.ts'
import { decodeAgent } from './agent-rows.ts'
import { decodeBundle } from './bundle-rows.ts'
import type { ChangeKey } from './change-set.ts'
import { chunks, idsPerStatement } from './chunks.ts'
import { decodeEntry, entryColumns } from './entry-rows.ts'
import { decodeFederation } from './federation-rows.ts'
import { isLost, partOf, type LogHead } from './log-reading.ts'
import { decodePolicyVersion } from './policy-rows.ts'
import { decodeRevocation } from './revocation-rows.ts'
import type { Schema } from './schema.ts'
import { decodeEndpoint, decodeService } from './service-rows.ts'
import { readActive } from './sql-policy-store.ts'
import type { SqlDatabase } from './sql-database.ts'

/** Numbers per reading; a reader that is further behind reads again. */
const mostAtOnce = 1_000

export class SqlChangeLog implements ChangeLog {
  readonly #database: SqlDatabase
  readonly #nudges: Nudges

  constructor (database: SqlDatabase, nudges: Nudges) {
    this.#database = database
    this.#nudges = nudges
  }

  get nudged (): boolean { return this.#nudges.proved }
  onNudge (listener: () => void): () => void { return this.#nudges.on(listener) }
  run (signal: AbortSignal): Promise<void> { return this.#nudges.run(signal) }

  async head (): Promise<Cursor> {
    const { epoch, number } = await this.#database.read(db => readHead(db, this.#database.kind))
    return { epoch, number }
  }

  async read (after: Cursor): Promise<LogReading> {
    // The usual answer costs one row.
    const head = await this.#database.read(db => readHead(db, this.#database.kind))
    if (isLost(after, head)) return { kind: 'lost' }
    if (after.number === head.number) return { kind: 'changes', cursor: after, state: nothingChanged, more: false }
    return await this.#database.snapshot(trx => readChanges(trx, this.#database.kind, after))
  }

  async prune (olderThan: Date): Promise<void> {
    await this.#database.transaction(async trx => {
      const newest = await trx.selectFrom('change_log').select('number').where('changed_at', '<', olderThan.getTime())
        .orderBy('number', 'desc').limit(1).executeTakeFirst()
      if (newest === undefined) return
      await trx.deleteFrom('change_log').where('number', '<=', newest.number).execute()
      // Never back: another may have forgotten more meanwhile.
      await trx.updateTable('log_head').set({ compacted: newest.number }).where('compacted', '<', newest.number).execute()
    })
  }
}

const nothingChanged: ChangedState = {
  entries: new Map(), agents: new Map(), bundles: new Map(), federation: new Map(), services: new Map(), endpoints: new Map(),
  revocations: new Map(), authorities: false
}

const timeline = sql.raw<string>(timelineSql)
const origin = sql<string>`(select system_identifier::text from pg_control_system()) || '.' || log_head.tableoid::text`

/**
 * Numbers are used a second time where a database is restored from a dump, and where a standby is promoted that lacked the last commits of
 * its primary. On PostgreSQL the epoch says so by itself: it names the cluster and the table, which a dump does not carry along, and ends
 * in the timeline.
 */
async function readHead (db: Kysely<Schema>, kind: SqlDatabase['kind']): Promise<LogHead> {
  if (kind === 'sqlite') return await db.selectFrom('log_head').select(['epoch', 'number', 'compacted']).executeTakeFirstOrThrow()
  const { line, origin: from, epoch, ...head } = await db.selectFrom('log_head')
    .select(['epoch', 'number', 'compacted', timeline.as('line'), origin.as('origin')]).executeTakeFirstOrThrow()
  // Its state may be old: nobody may take it for the truth.
  if (line === '') throw new SpiffeError('datastore_unavailable', 'the PostgreSQL server is a standby')
  return { ...head, epoch: `${epoch}/${from}/${line}` }
}

async function readChanges (trx: Transaction<Schema>, kind: SqlDatabase['kind'], after: Cursor): Promise<LogReading> {
  const head = await readHead(trx, kind)
  if (isLost(after, head)) return { kind: 'lost' }
  const rows = await trx.selectFrom('change_log').select(['number', 'keys']).where('number', '>', after.number)
    .orderBy('number').limit(mostAtOnce).execute()
  const part = partOf(rows.map(({ number, keys }) => ({ number, keys: JSON.parse(keys) as ChangeKey[] })), after, head)
  if (part === undefined) return { kind: 'lost' }
  const { cursor, keys, more } = part
  return { kind: 'changes', cursor, state: await readState(trx, keys), more }
}

async function readState (trx: Transaction<Schema>, keys: readonly ChangeKey[]): Promise<ChangedState> {
  /** Those of a kind that are named, as they are now; `undefined`: gone. */
  const named = async <K extends string, Row, T>(
    wanted: ChangeKey[0], select: (some: readonly K[]) => Promise<readonly Row[]>, keyOf: (row: Row) => string, decode: (row: Row) => T
  ): Promise<Map<K, T | undefined>> => {
    const ofKind = keys.flatMap(([kind, key]) => kind === wanted && key !== undefined ? [key as K] : [])
    const found = new Map<K, T | undefined>(ofKind.map(key => [key, undefined]))
    for (const some of chunks([...found.keys()], idsPerStatement)) {
      for (const row of await select(some)) found.set(keyOf(row) as K, decode(row))
    }
    return found
  }
  const idOf = ({ id }: { readonly id: string }) => id
  return {
    entries: await named('entry', ids => trx.selectFrom('entries').select(entryColumns).where('id', 'in', ids).execute(), idOf,
      decodeEntry),
    agents: await named('agent', ids => trx.selectFrom('agents').selectAll().where('id', 'in', ids).execute(), idOf, decodeAgent),
    bundles: await named('bundle', domains => trx.selectFrom('bundles').selectAll().where('trust_domain', 'in', domains).execute(),
      row => row.trust_domain, decodeBundle),
    federation: await named('federation', domains =>
      trx.selectFrom('federation_relationships').selectAll().where('trust_domain', 'in', domains).execute(), row => row.trust_domain,
    decodeFederation),
    services: await named('service', ids => trx.selectFrom('services').selectAll().where('id', 'in', ids).execute(), idOf, decodeService),
    endpoints: await named('endpoint', ids => trx.selectFrom('service_endpoints').selectAll().where('id', 'in', ids).execute(), idOf,
      decodeEndpoint),
    revocations: await named('revocation', ids => trx.selectFrom('revocations').selectAll().where('id', 'in', ids).execute(), idOf,
      decodeRevocation),
    authorities: keys.some(([kind]) => kind === 'authorities'),
    ...keys.some(([kind]) => kind === 'policies') ? { policies: { active: await readPolicies(trx) } } : {}
  }
}

async function readPolicies (trx: Transaction<Schema>) {
  const row = await readActive(trx)
  return row === undefined ? undefined : await decodePolicyVersion(row)
}
