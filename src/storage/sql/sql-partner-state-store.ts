import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { PartnerStateStore, StoredPartnerState } from '../partner-state-store.ts'
import { chunks, idsPerStatement, rowsPerInsert } from './chunks.ts'
import type { PartnerStateRow } from './schema.ts'
import type { SqlDatabase } from './sql-database.ts'

export class SqlPartnerStateStore implements PartnerStateStore {
  readonly #database: SqlDatabase

  constructor (database: SqlDatabase) { this.#database = database }

  async put (states: readonly StoredPartnerState[]): Promise<void> {
    if (states.length === 0) return
    const rows = states.map(encodeState).toSorted((a, b) => a.trust_domain < b.trust_domain ? -1 : 1)
    await this.#database.transaction(async trx => {
      for (const chunk of chunks(rows, rowsPerInsert)) {
        await trx.insertInto('partner_states').values(chunk)
          .onConflict(conflict => conflict.column('trust_domain').doUpdateSet(eb => ({
            replica_id: eb.ref('excluded.replica_id'), seen_at: eb.ref('excluded.seen_at'), facts: eb.ref('excluded.facts')
          }))).execute()
      }
    })
  }

  async keep (trustDomains: readonly TrustDomain[]): Promise<void> {
    const kept = new Set<string>(trustDomains)
    await this.#database.transaction(async trx => {
      const rows = await trx.selectFrom('partner_states').select('trust_domain').orderBy('trust_domain').execute()
      const gone = rows.map(row => row.trust_domain).filter(name => !kept.has(name))
      for (const chunk of chunks(gone, idsPerStatement)) {
        await trx.deleteFrom('partner_states').where('trust_domain', 'in', chunk).execute()
      }
    })
  }

  async list (): Promise<readonly StoredPartnerState[]> {
    const rows = await this.#database.read(db => db.selectFrom('partner_states').selectAll().execute())
    return rows.map(decodeState).toSorted((a, b) => a.trustDomain < b.trustDomain ? -1 : 1)
  }
}

function encodeState ({ trustDomain, replicaId, seenAt, facts }: StoredPartnerState): PartnerStateRow {
  return { trust_domain: trustDomain, replica_id: replicaId, seen_at: seenAt.getTime(), facts: JSON.stringify(facts) }
}

function decodeState (row: PartnerStateRow): StoredPartnerState {
  return {
    trustDomain: row.trust_domain as TrustDomain,
    replicaId: row.replica_id,
    seenAt: new Date(row.seen_at),
    facts: JSON.parse(row.facts) as Record<string, unknown>
  }
}
