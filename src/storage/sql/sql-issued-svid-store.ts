import { sql, type Transaction } from 'kysely'
import type { Clock } from '../../runtime/clock.ts'
import type { CertificateDigest } from '../../spiffe/revocation.ts'
import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { IssuedSvid, IssuedSvidStore, RefusedSvids } from '../issued-svid-store.ts'
import { chunks, idsPerStatement } from './chunks.ts'
import { decodeRevocation, encodeRevocation } from './revocation-rows.ts'
import type { IssuedSvidRow, RevocationRow, Schema } from './schema.ts'
import type { SqlDatabase } from './sql-database.ts'

/** Rows one deletion takes: nobody waits for long behind it. */
const prunedAtOnce = 5_000

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
      await insert(trx, this.#database.kind, svids)
      const standing = await this.#covering(trx, svids)
      if (standing.length === 0) return new Map()
      const kinds = new Map(standing.map(row => [row.subject, row.kind]))
      const refused = new Map<IssuedSvid, 'id' | 'node'>()
      for (const svid of svids) {
        if (kinds.get(svid.spiffeId) === 'spiffe_id') refused.set(svid, 'id')
        else if (kinds.get(svid.agentId ?? '') === 'node') refused.set(svid, 'node')
      }
      for (const digests of chunks([...refused.keys()].map(({ digest }) => bytesOf(digest)), idsPerStatement)) {
        await trx.deleteFrom('issued_svids').where('digest', 'in', digests).execute()
      }
      return refused
    })
  }

  async recordLate (svids: readonly IssuedSvid[]): Promise<void> {
    await this.#database.change(this.#clock.now(), async (trx, changes) => {
      await insert(trx, this.#database.kind, svids)
      for (const row of await this.#covering(trx, svids)) {
        const before = decodeRevocation(row)
        const covered = svids.filter(svid => (row.kind === 'node' ? svid.agentId : svid.spiffeId) === row.subject)
        const certificateDigests = [...new Set([...before.certificateDigests, ...covered.map(({ digest }) => digest)])]
        if (certificateDigests.length === before.certificateDigests.length) continue
        const expiresAt = new Date(Math.max(row.expires_at, ...covered.map(({ notAfter }) => notAfter.getTime())))
        const { id, ...columns } = encodeRevocation({ ...before, certificateDigests, expiresAt })
        await trx.updateTable('revocations').set(columns).where('id', '=', id).execute()
        changes.revocation(before)
      }
    })
  }

  async findByDigest (digest: CertificateDigest): Promise<IssuedSvid | undefined> {
    const row = await this.#database.read(db =>
      db.selectFrom('issued_svids').selectAll().where('digest', '=', bytesOf(digest)).executeTakeFirst())
    return row === undefined ? undefined : decodeIssuedSvid(row)
  }

  async findBySerial (serialNumber: string): Promise<readonly IssuedSvid[]> {
    const rows = await this.#database.read(db =>
      db.selectFrom('issued_svids').selectAll().where('serial_number', '=', serialNumber).orderBy('digest').execute())
    return rows.map(decodeIssuedSvid)
  }

  async prune (now: Date): Promise<number> {
    let pruned = 0
    for (;;) {
      const { numDeletedRows } = await this.#database.transaction(trx => trx.deleteFrom('issued_svids')
        .where('digest', 'in', eb => eb.selectFrom('issued_svids').select('digest').where('not_after', '<=', now.getTime())
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

/** One parameter, however many rows: to take statements with thousands of them apart would cost more than the rows. */
async function insert (trx: Transaction<Schema>, kind: SqlDatabase['kind'], svids: readonly IssuedSvid[]): Promise<void> {
  const rows = JSON.stringify(svids.map(({ digest, serialNumber, spiffeId, agentId = '', replicaId, issuedAt, notAfter }) =>
    [digest, serialNumber, spiffeId, agentId, replicaId, issuedAt.getTime(), notAfter.getTime()]))
  const columns = sql.raw('issued_svids (digest, serial_number, spiffe_id, agent_id, replica_id, issued_at, not_after)')
  if (kind === 'postgres') {
    await sql`insert into ${columns} select decode(r ->> 0, 'hex'), r ->> 1, r ->> 2, r ->> 3, r ->> 4, (r ->> 5)::bigint, (r ->> 6)::bigint
      from json_array_elements(${rows}::json) as r on conflict do nothing`.execute(trx)
    return
  }
  await sql`insert into ${columns} select unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6
    from json_each(${rows}) where true on conflict do nothing`.execute(trx)
}

function decodeIssuedSvid (row: IssuedSvidRow): IssuedSvid {
  return {
    digest: Buffer.from(row.digest).toString('hex'),
    serialNumber: row.serial_number,
    spiffeId: row.spiffe_id as SpiffeId,
    agentId: row.agent_id === '' ? undefined : row.agent_id as SpiffeId,
    replicaId: row.replica_id,
    issuedAt: new Date(row.issued_at),
    notAfter: new Date(row.not_after)
  }
}

function bytesOf (digest: CertificateDigest): Uint8Array { return Buffer.from(digest, 'hex') }
