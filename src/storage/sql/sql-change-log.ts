import { sql, type Kysely, type Transaction } from 'kysely'
import type { Agent } from '../../spiffe/agent.ts'
import type { Bundle } from '../../spiffe/bundle.ts'
import type { Entry } from '../../spiffe/entry.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { ServiceEndpoint } from '../../spiffe/service-endpoint.ts'
import type { Service } from '../../spiffe/service.ts'
import type { Revocation } from '../../spiffe/revocation.ts'
import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { ChangedState, ChangeLog, Cursor, LogReading } from '../change-log.ts'
import type { Nudges } from '../nudges.ts'
import { timelineSql } from '../postgres/timeline.ts'
import { decodeAgent } from './agent-rows.ts'
import { decodeBundle } from './bundle-rows.ts'
import type { ChangeKey } from './change-set.ts'
import { chunks, idsPerStatement } from './chunks.ts'
import { decodeEntry, entryColumns } from './entry-rows.ts'
import { isLost, partOf, type LogHead } from './log-reading.ts'
import { decodeRevocation } from './revocation-rows.ts'
import type { Schema } from './schema.ts'
import { decodeEndpoint, decodeService } from './service-rows.ts'
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
  entries: new Map(), agents: new Map(), bundles: new Map(), services: new Map(), endpoints: new Map(), revocations: new Map(),
  authorities: false
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
  const named = (wanted: ChangeKey[0]) => [...new Set(keys.flatMap(([kind, key]) => kind === wanted && key !== undefined ? [key] : []))]
  const entries = new Map<string, Entry | undefined>(named('entry').map(id => [id, undefined]))
  for (const ids of chunks([...entries.keys()], idsPerStatement)) {
    const rows = await trx.selectFrom('entries').select(entryColumns).where('id', 'in', ids).execute()
    for (const row of rows) entries.set(row.id, decodeEntry(row))
  }
  const agents = new Map<SpiffeId, Agent | undefined>(named('agent').map(id => [id as SpiffeId, undefined]))
  for (const ids of chunks([...agents.keys()], idsPerStatement)) {
    for (const row of await trx.selectFrom('agents').selectAll().where('id', 'in', ids).execute()) {
      agents.set(row.id as SpiffeId, decodeAgent(row))
    }
  }
  const bundles = new Map<TrustDomain, Bundle | undefined>(named('bundle').map(domain => [domain as TrustDomain, undefined]))
  for (const domains of chunks([...bundles.keys()], idsPerStatement)) {
    for (const row of await trx.selectFrom('bundles').selectAll().where('trust_domain', 'in', domains).execute()) {
      bundles.set(row.trust_domain as TrustDomain, decodeBundle(row))
    }
  }
  const services = new Map<string, Service | undefined>(named('service').map(id => [id, undefined]))
  for (const ids of chunks([...services.keys()], idsPerStatement)) {
    const rows = await trx.selectFrom('services').selectAll().where('id', 'in', ids).execute()
    for (const row of rows) services.set(row.id, decodeService(row))
  }
  const endpoints = new Map<string, ServiceEndpoint | undefined>(named('endpoint').map(id => [id, undefined]))
  for (const ids of chunks([...endpoints.keys()], idsPerStatement)) {
    const rows = await trx.selectFrom('service_endpoints').selectAll().where('id', 'in', ids).execute()
    for (const row of rows) endpoints.set(row.id, decodeEndpoint(row))
  }
  const revocations = new Map<string, Revocation | undefined>(named('revocation').map(id => [id, undefined]))
  for (const ids of chunks([...revocations.keys()], idsPerStatement)) {
    for (const row of await trx.selectFrom('revocations').selectAll().where('id', 'in', ids).execute()) {
      revocations.set(row.id, decodeRevocation(row))
    }
  }
  return { entries, agents, bundles, services, endpoints, revocations, authorities: keys.some(([kind]) => kind === 'authorities') }
}
