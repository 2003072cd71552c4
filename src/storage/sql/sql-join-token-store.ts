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
    const refusal = refusalOf(await this.#database.read(db => find(db, digestOf(token))), now)
    if (refusal !== undefined) throw refusal
  }

  async prune (now: Date): Promise<number> {
    const { numDeletedRows } = await this.#database.transaction(trx =>
      trx.deleteFrom('join_tokens').where('expires_at', '<=', now.getTime()).executeTakeFirstOrThrow())
    return Number(numDeletedRows)
  }
}

/**
 * Takes a token within a transaction; of many takers one succeeds.
 * @returns `join_token_invalid` where nothing was taken
 */
export async function takeJoinToken (trx: Kysely<Schema>, token: string, now: Date): Promise<SpiffeError | undefined> {
  const digest = digestOf(token)
  const taken = await trx.deleteFrom('join_tokens').where('digest', '=', digest).where('expires_at', '>', now.getTime())
    .returning('expires_at').executeTakeFirst()
  return taken === undefined ? refusalOf(await find(trx, digest), now) : undefined
}

async function find (db: Kysely<Schema>, digest: Uint8Array): Promise<Found> {
  return await db.selectFrom('join_tokens').select('expires_at').where('digest', '=', digest).executeTakeFirst()
}

type Found = { readonly expires_at: number } | undefined

/** The wording is that of SPIRE. */
function refusalOf (found: Found, now: Date): SpiffeError | undefined {
  if (found === undefined) return new SpiffeError('join_token_invalid', 'join token does not exist or has already been used')
  return found.expires_at <= now.getTime() ? new SpiffeError('join_token_invalid', 'join token expired') : undefined
}

function digestOf (token: string): Uint8Array {
  return hash('sha256', token, 'buffer')
}
