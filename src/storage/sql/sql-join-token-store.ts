import { hash } from 'node:crypto'
import type { Kysely } from 'kysely'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { JoinTokenStore } from '../join-token-store.ts'
import type { Schema } from './schema.ts'
import type { SqlDatabase } from './sql-database.ts'

export class SqlJoinTokenStore implements JoinTokenStore {
  readonly #database: SqlDatabase

  constructor (database: SqlDatabase) { this.#database = database }

  async create (token: string, expiresAt: Date): Promise<void> {
    if (token === '') throw new SpiffeError('argument_invalid', 'a join token must not be empty')
    const inserted = await this.#database.transaction(trx => trx.insertInto('join_tokens')
      .values({ digest: digestOf(token), expires_at: expiresAt.getTime() })
      .onConflict(conflict => conflict.column('digest').doNothing()).returning('expires_at').executeTakeFirst())
    if (inserted === undefined) throw new SpiffeError('join_token_exists', 'this join token exists already')
  }

  async check (token: string, now: Date): Promise<void> {
    const row = await this.#database.read(db =>
      db.selectFrom('join_tokens').select('expires_at').where('digest', '=', digestOf(token)).executeTakeFirst())
    checkRow(row, now)
  }

  async prune (now: Date): Promise<number> {
    const { numDeletedRows } = await this.#database.transaction(trx =>
      trx.deleteFrom('join_tokens').where('expires_at', '<=', now.getTime()).executeTakeFirstOrThrow())
    return Number(numDeletedRows)
  }
}

/** Takes a token within a transaction; of many takers one succeeds. @throws {SpiffeError} `join_token_invalid` */
export async function takeJoinToken (trx: Kysely<Schema>, token: string, now: Date): Promise<void> {
  const row = await trx.deleteFrom('join_tokens').where('digest', '=', digestOf(token)).returning('expires_at').executeTakeFirst()
  checkRow(row, now)
}

/** The wording is that of SPIRE. */
function checkRow (row: { readonly expires_at: number } | undefined, now: Date): void {
  if (row === undefined) throw new SpiffeError('join_token_invalid', 'join token does not exist or has already been used')
  if (row.expires_at <= now.getTime()) throw new SpiffeError('join_token_invalid', 'join token expired')
}

function digestOf (token: string): Uint8Array {
  return hash('sha256', token, 'buffer')
}
