import type { Transaction } from 'kysely'
import type { Clock } from '../../runtime/clock.ts'
import type { CertificateDigest } from '../../spiffe/revocation.ts'
import type { IssuedSvid, IssuedSvidStore, RefusedSvids } from '../issued-svid-store.ts'
import { chunks, idsPerStatement, rowsPerInsert } from './chunks.ts'
import { encodeIssuedSvids, readWithWord } from './issued-svid-rows.ts'
import { decodeRevocation, encodeRevocation } from './revocation-rows.ts'
import type { IssuedSvidRow, RevocationRow, Schema } from './schema.ts'
import type { SqlDatabase } from './sql-database.ts'

/** Rows one deletion takes: nobody waits for long behind it. */
const prunedAtOnce = 1_000

export class SqlIssuedSvidStore implements IssuedSvidStore {
  readonly #database: SqlDatabase
  readonly #clock: Clock

  constructor (database: SqlDatabase, clock: Clock) {
    this.#database = database
    this.#clock = clock
  }

  record (svids: readonly IssuedSvid[]): Promise<RefusedSvids> {
    return this.#database.transaction(async trx => {
      // First: whoever revokes keeps records out until it has committed, and what follows sees what it wrote.
      const rows = encodeIssuedSvids(svids)
      await insert(trx, rows)
      const standing = await this.#covering(trx, svids)
      if (standing.length === 0) return new Map()
      const kinds = new Map(standing.map(row => [row.subject, row.kind]))
      const refused = new Map<IssuedSvid, 'id' | 'node'>()
      for (const svid of svids) {
        if (kinds.get(svid.spiffeId) === 'spiffe_id') refused.set(svid, 'id')
        else if (kinds.get(svid.agentId ?? '') === 'node') refused.set(svid, 'node')
      }
      if (refused.size === 0) return refused
      for (const ids of chunks(rows.map(({ id }) => id), idsPerStatement)) {
        await trx.deleteFrom('issued_svids').where('id', 'in', ids).execute()
      }
      await insert(trx, encodeIssuedSvids(svids.filter(svid => !refused.has(svid))))
      return refused
    })
  }

  async recordLate (svids: readonly IssuedSvid[]): Promise<void> {
    await this.#database.change(this.#clock.now(), async (trx, changes) => {
      await insert(trx, encodeIssuedSvids(svids))
      for (const row of await this.#covering(trx, svids)) {
        const before = decodeRevocation(row)
        const covered = svids.filter(svid => (row.kind === 'node' ? svid.agentId : svid.spiffeId) === row.subject)
        const certificateDigests = [...new Set([...before.certificateDigests, ...covered.map(({ digest }) => digest)])].toSorted()
        if (certificateDigests.length === before.certificateDigests.length) continue
        const expiresAt = new Date(Math.max(row.expires_at, ...covered.map(({ notAfter }) => notAfter.getTime())))
        const { id, ...columns } = encodeRevocation({ ...before, certificateDigests, expiresAt })
        await trx.updateTable('revocations').set(columns).where('id', '=', id).execute()
        changes.revocation(before)
      }
    })
  }

  async findByDigest (digest: CertificateDigest): Promise<IssuedSvid | undefined> {
    const found = await this.#database.read(db => readWithWord(db, this.#database.kind, digest))
    return found.find(svid => svid.digest === digest)
  }

  async findBySerial (serialNumber: string): Promise<readonly IssuedSvid[]> {
    const found = await this.#database.read(db => readWithWord(db, this.#database.kind, serialNumber))
    const digests = new Map(found.filter(svid => svid.serialNumber === serialNumber).map(svid => [svid.digest, svid]))
    return [...digests.values()]
  }

  async prune (now: Date): Promise<number> {
    let pruned = 0
    for (;;) {
      const { numDeletedRows } = await this.#database.transaction(trx => trx.deleteFrom('issued_svids')
        .where('id', 'in', eb => eb.selectFrom('issued_svids').select('id').where('not_after', '<=', now.getTime())
          .limit(prunedAtOnce))
        .executeTakeFirstOrThrow())
      pruned += Number(numDeletedRows)
      if (numDeletedRows < prunedAtOnce) return pruned
    }
  }

  /** Revocations of these SVIDs' IDs and nodes. */
  async #covering (trx: Transaction<Schema>, svids: readonly IssuedSvid[]): Promise<RevocationRow[]> {
    const subjects = new Set(svids.flatMap(({ spiffeId, agentId }) => agentId === undefined ? [spiffeId] : [spiffeId, agentId]))
    const found: RevocationRow[] = []
    for (const ids of chunks([...subjects], idsPerStatement)) {
      found.push(...await trx.selectFrom('revocations').selectAll().where('subject', 'in', ids).where('kind', '<>', 'svid')
        .where('expires_at', '>', this.#clock.now().getTime()).execute())
    }
    return found
  }
}

async function insert (trx: Transaction<Schema>, rows: readonly IssuedSvidRow[]): Promise<void> {
  for (const chunk of chunks(rows, rowsPerInsert)) await trx.insertInto('issued_svids').values(chunk).execute()
}
