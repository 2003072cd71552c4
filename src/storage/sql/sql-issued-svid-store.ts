import { CompiledQuery, sql, type Kysely, type Transaction } from 'kysely'
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
/** Of how many rows at once the text of the insert is kept: calls that meet are few. */
const mostKeptRows = 32

export class SqlIssuedSvidStore implements IssuedSvidStore {
  readonly #database: SqlDatabase
  readonly #clock: Clock
  /** By number of rows: building a text takes longer than its statement does. */
  readonly #inserts = new Map<number, string>()

  constructor (database: SqlDatabase, clock: Clock) {
    this.#database = database
    this.#clock = clock
  }

  async record (svids: readonly IssuedSvid[]): Promise<RefusedSvids> {
    const rows = encodeIssuedSvids(svids)
    // In this order: who revokes keeps records out until it has committed. It has seen these rows, or it is seen now.
    let mayBeRevoked = false
    for (const chunk of chunks(rows, rowsPerInsert)) {
      mayBeRevoked = await this.#database.write(db => this.#insertAndLook(db, chunk)) || mayBeRevoked
    }
    if (!mayBeRevoked) return noneRefused
    const standing = await this.#database.read(db => covering(db, svids, this.#clock.now()))
    if (standing.length === 0) return noneRefused
    const refused = refusedBy(standing, svids)
    await this.#database.transaction(async trx => {
      for (const ids of chunks(rows.map(({ id }) => id), idsPerStatement)) {
        await trx.deleteFrom('issued_svids').where('id', 'in', ids).execute()
      }
      await insert(trx, encodeIssuedSvids(svids.filter(svid => !refused.has(svid))))
    })
    return refused
  }

  async recordLate (svids: readonly IssuedSvid[]): Promise<void> {
    await this.#database.change(this.#clock.now(), async (trx, changes) => {
      await insert(trx, encodeIssuedSvids(svids))
      for (const row of await covering(trx, svids, this.#clock.now())) {
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

  /**
   * @returns whether revocations may cover the rows. SQLite has one writer, so that its statement sees all that were made before it; one of
   * PostgreSQL's that waited for a revocation does not see it, which takes a look of its own
   */
  async #insertAndLook (db: Kysely<Schema>, rows: readonly IssuedSvidRow[]): Promise<boolean> {
    if (this.#database.kind === 'postgres') {
      await insertInto(db, rows).execute()
      return true
    }
    let text = this.#inserts.get(rows.length)
    if (text === undefined) {
      text = insertInto(db, rows).returning(anyStands.as('stands')).compile().sql
      if (rows.length <= mostKeptRows) this.#inserts.set(rows.length, text)
    }
    // The order of columns is that of the rows' keys.
    const { rows: inserted } = await db.executeQuery<{ stands: number }>(CompiledQuery.raw(text, rows.flatMap(row => Object.values(row))))
    return inserted.length < rows.length || inserted.some(({ stands }) => stands !== 0)
  }
}

const noneRefused: RefusedSvids = new Map()
const anyStands = sql<number>`exists (select 1 from revocations where kind <> 'svid')`

/**
 * The same within a transaction that has written nothing yet, which is to be committed before the SVIDs are given out: it waits for who
 * revokes, whom it then sees, or keeps who revokes waiting. What is refused stays recorded.
 */
export async function recordIssued (trx: Transaction<Schema>, svids: readonly IssuedSvid[], now: Date): Promise<RefusedSvids> {
  if (svids.length === 0) return noneRefused
  await insert(trx, encodeIssuedSvids(svids))
  const standing = await covering(trx, svids, now)
  return standing.length === 0 ? noneRefused : refusedBy(standing, svids)
}

function refusedBy (standing: readonly RevocationRow[], svids: readonly IssuedSvid[]): RefusedSvids {
  const kinds = new Map(standing.map(row => [row.subject, row.kind]))
  const refused = new Map<IssuedSvid, 'id' | 'node'>()
  for (const svid of svids) {
    if (kinds.get(svid.spiffeId) === 'spiffe_id') refused.set(svid, 'id')
    else if (kinds.get(svid.agentId ?? '') === 'node') refused.set(svid, 'node')
  }
  return refused
}

/** Revocations of these SVIDs' IDs and nodes. */
async function covering (db: Kysely<Schema>, svids: readonly IssuedSvid[], now: Date): Promise<RevocationRow[]> {
  // Nearly always there is none at all.
  if (await db.selectFrom('revocations').select('id').where('kind', '<>', 'svid').limit(1).executeTakeFirst() === undefined) return []
  const subjects = new Set(svids.flatMap(({ spiffeId, agentId }) => agentId === undefined ? [spiffeId] : [spiffeId, agentId]))
  const found: RevocationRow[] = []
  for (const ids of chunks([...subjects], idsPerStatement)) {
    found.push(...await db.selectFrom('revocations').selectAll().where('subject', 'in', ids).where('kind', '<>', 'svid')
      .where('expires_at', '>', now.getTime()).execute())
  }
  return found
}

async function insert (trx: Transaction<Schema>, rows: readonly IssuedSvidRow[]): Promise<void> {
  for (const chunk of chunks(rows, rowsPerInsert)) await insertInto(trx, chunk).execute()
}

function insertInto (db: Kysely<Schema>, rows: readonly IssuedSvidRow[]) {
  return db.insertInto('issued_svids').values(rows).onConflict(conflict => conflict.column('id').doNothing())
}
