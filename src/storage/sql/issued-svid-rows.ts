import { randomBytes } from 'node:crypto'
import { sql, type ExpressionWrapper, type Kysely, type RawBuilder, type SqlBool } from 'kysely'
import type { CertificateDigest } from '../../spiffe/revocation.ts'
import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { IssuedSvid } from '../issued-svid-store.ts'
import type { IssuedSvidRow, Schema } from './schema.ts'
import type { SqlDatabase } from './sql-database.ts'

type WrittenSvid = readonly [digest: CertificateDigest, serialNumber: string, spiffeId: SpiffeId, notAfterMs: number]

/** One row for each node, replica and moment. */
export function encodeIssuedSvids (svids: readonly IssuedSvid[]): IssuedSvidRow[] {
  const groups = Map.groupBy(svids, ({ agentId = '', replicaId, issuedAt }) => `${agentId} ${replicaId} ${issuedAt.getTime()}`)
  return [...groups.values()].map(group => {
    const [{ agentId = '', replicaId, issuedAt }] = group as [IssuedSvid, ...IssuedSvid[]]
    return {
      id: newId(issuedAt),
      agent_id: agentId,
      replica_id: replicaId,
      issued_at: issuedAt.getTime(),
      not_after: group.reduce((latest, { notAfter }) => Math.max(latest, notAfter.getTime()), 0),
      svids: JSON.stringify(group.map((svid): WrittenSvid => [svid.digest, svid.serialNumber, svid.spiffeId, svid.notAfter.getTime()]))
    }
  })
}

function decodeIssuedSvids (row: IssuedSvidRow): IssuedSvid[] {
  return (JSON.parse(row.svids) as WrittenSvid[]).map(([digest, serialNumber, spiffeId, notAfterMs]) => ({
    digest,
    serialNumber,
    spiffeId,
    agentId: row.agent_id === '' ? undefined : row.agent_id as SpiffeId,
    replicaId: row.replica_id,
    issuedAt: new Date(row.issued_at),
    notAfter: new Date(notAfterMs)
  }))
}

/** Those that a row with such a word has; others of the same rows are among them. @param word a digest, serial number or SPIFFE ID */
export async function readWithWord (db: Kysely<Schema>, kind: SqlDatabase['kind'], word: string): Promise<IssuedSvid[]> {
  // None of these words has a character that JSON would write differently.
  const quoted = JSON.stringify(word)
  const has = kind === 'postgres' ? sql<SqlBool>`strpos(svids, ${quoted}) > 0` : sql<SqlBool>`instr(svids, ${quoted}) > 0`
  return await read(db, has)
}

export async function readOfAgent (db: Kysely<Schema>, agentId: SpiffeId): Promise<IssuedSvid[]> {
  return await read(db, sql<SqlBool>`agent_id = ${agentId}`)
}

async function read (db: Kysely<Schema>, condition: RawBuilder<SqlBool> | ExpressionWrapper<Schema, 'issued_svids', SqlBool>) {
  const rows = await db.selectFrom('issued_svids').selectAll().where(condition).orderBy('id').execute()
  return rows.flatMap(decodeIssuedSvids)
}

/** In the order of time, so that indexes grow at their end. */
function newId (at: Date): string {
  return `${at.getTime().toString(16).padStart(12, '0')}-${randomBytes(10).toString('hex')}`
}
