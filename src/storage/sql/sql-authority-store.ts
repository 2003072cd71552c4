import type { AuthorityStore, StoredAuthority } from '../authority-store.ts'
import type { AuthorityRow } from './schema.ts'
import type { SqlDatabase } from './sql-database.ts'

export class SqlAuthorityStore implements AuthorityStore {
  readonly #database: SqlDatabase

  constructor (database: SqlDatabase) { this.#database = database }

  async list (kind: StoredAuthority['kind']): Promise<readonly StoredAuthority[]> {
    const rows = await this.#database.read(db =>
      db.selectFrom('authorities').selectAll().where('kind', '=', kind).orderBy('row_id').execute())
    return rows.map(decodeAuthority)
  }

  async save (authorities: readonly StoredAuthority[]): Promise<void> {
    await this.#database.transaction(async trx => {
      for (const authority of authorities) {
        const { kind, authority_id, ...columns } = encodeAuthority(authority)
        await trx.insertInto('authorities').values({ kind, authority_id, ...columns })
          .onConflict(conflict => conflict.columns(['kind', 'authority_id']).doUpdateSet(columns)).execute()
      }
    })
  }

  async prune (expiredBy: Date): Promise<readonly StoredAuthority[]> {
    const rows = await this.#database.transaction(trx => trx.deleteFrom('authorities')
      .where('state', '=', 'old').where('not_after', '<=', expiredBy.getTime()).returningAll().execute())
    return rows.map(decodeAuthority)
  }
}

function encodeAuthority (authority: StoredAuthority): Omit<AuthorityRow, 'row_id'> {
  return {
    kind: authority.kind,
    authority_id: authority.authorityId,
    slot: authority.slot,
    state: authority.state,
    certificate: authority.certificate ?? null,
    public_key: authority.publicKey,
    not_before: authority.notBefore.getTime(),
    not_after: authority.notAfter.getTime(),
    upstream_authority_id: authority.upstreamAuthorityId ?? null
  }
}

function decodeAuthority (row: AuthorityRow): StoredAuthority {
  return {
    authorityId: row.authority_id,
    kind: row.kind as StoredAuthority['kind'],
    slot: row.slot as StoredAuthority['slot'],
    state: row.state as StoredAuthority['state'],
    ...row.certificate === null ? {} : { certificate: new Uint8Array(row.certificate) },
    publicKey: new Uint8Array(row.public_key),
    notBefore: new Date(row.not_before),
    notAfter: new Date(row.not_after),
    ...row.upstream_authority_id === null ? {} : { upstreamAuthorityId: row.upstream_authority_id }
  }
}
