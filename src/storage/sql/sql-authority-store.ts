import type { Bundle } from '../../spiffe/bundle.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { AuthorityStore, Publication, StoredAuthority } from '../authority-store.ts'
import { updateBundle } from './sql-bundle-store.ts'
import type { AuthorityRow } from './schema.ts'
import { differs } from './differs.ts'
import type { SqlDatabase } from './sql-database.ts'

export class SqlAuthorityStore implements AuthorityStore {
  readonly #database: SqlDatabase
  readonly #clock: Clock

  constructor (database: SqlDatabase, clock: Clock) {
    this.#database = database
    this.#clock = clock
  }

  async list (kind: StoredAuthority['kind'], owner = ''): Promise<readonly StoredAuthority[]> {
    const rows = await this.#database.read(db => db.selectFrom('authorities').selectAll()
      .where('kind', '=', kind).where('owner', '=', owner).orderBy('row_id').execute())
    return rows.map(decodeAuthority)
  }

  async save (authorities: readonly StoredAuthority[], publication?: Publication): Promise<Bundle | undefined> {
    return await this.#database.change(this.#clock.now(), async (trx, changes) => {
      const bundle = publication === undefined
        ? undefined
        : await updateBundle(trx, publication.trustDomain, publication.change, { database: this.#database, changes })
      for (const authority of authorities) {
        const { kind, authority_id, ...columns } = encodeAuthority(authority)
        const before = await trx.selectFrom('authorities').selectAll()
          .where('kind', '=', kind).where('authority_id', '=', authority_id).executeTakeFirst()
        if (before !== undefined && !differs(before, columns)) continue
        changes.authorities()
        await trx.insertInto('authorities').values({ kind, authority_id, ...columns })
          .onConflict(conflict => conflict.columns(['kind', 'authority_id']).doUpdateSet(columns)).execute()
      }
      return bundle
    })
  }

  async prune (expiredBy: Date): Promise<readonly StoredAuthority[]> {
    const rows = await this.#database.change(this.#clock.now(), async (trx, changes) => {
      const rows = await trx.deleteFrom('authorities').where('not_after', '<=', expiredBy.getTime())
        .where(eb => eb.or([eb('state', 'not in', ['prepared', 'active']), eb('owner', '<>', '')])).returningAll().execute()
      if (rows.length > 0) changes.authorities()
      return rows
    })
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
    upstream_authority_id: authority.upstreamAuthorityId ?? null,
    owner: authority.owner ?? ''
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
    ...row.upstream_authority_id === null ? {} : { upstreamAuthorityId: row.upstream_authority_id },
    ...row.owner === '' ? {} : { owner: row.owner }
  }
}
