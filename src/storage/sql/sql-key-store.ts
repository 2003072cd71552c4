import type { Clock } from '../../runtime/clock.ts'
import type { KeyStore } from '../key-store.ts'
import type { SqlDatabase } from './sql-database.ts'

export class SqlKeyStore implements KeyStore {
  readonly #database: SqlDatabase
  readonly #clock: Clock

  constructor (database: SqlDatabase, clock: Clock) {
    this.#database = database
    this.#clock = clock
  }

  async list (): Promise<ReadonlyMap<string, Uint8Array>> {
    const rows = await this.#database.read(db => db.selectFrom('wrapped_keys').selectAll().orderBy('id').execute())
    return new Map(rows.map(({ id, wrapped }) => [id, new Uint8Array(wrapped)]))
  }

  async put (id: string, wrapped: Uint8Array): Promise<void> {
    await this.#database.change(this.#clock.now(), async (trx, changes) => {
      const { numInsertedOrUpdatedRows = 0n } = await trx.insertInto('wrapped_keys').values({ id, wrapped })
        .onConflict(conflict => conflict.column('id').doUpdateSet({ wrapped }).where('wrapped_keys.wrapped', '<>', wrapped))
        .executeTakeFirstOrThrow()
      if (numInsertedOrUpdatedRows > 0n) changes.authorities()
    })
  }

  async delete (id: string): Promise<void> {
    await this.#database.change(this.#clock.now(), async (trx, changes) => {
      const { numDeletedRows } = await trx.deleteFrom('wrapped_keys').where('id', '=', id).executeTakeFirstOrThrow()
      if (numDeletedRows > 0n) changes.authorities()
    })
  }
}
