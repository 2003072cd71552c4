import type { Kysely, Transaction } from 'kysely'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { Schema } from './schema.ts'

/** What the stores ask of either database. */
export interface SqlEngine {
  readonly kind: 'sqlite' | 'postgres'
  readonly db: Kysely<Schema>
  /** Turns an error of the driver into a refusal; gives back what it does not know. */
  translate (error: unknown): unknown
  /** Whether another transaction got in the way, so that a fresh attempt can succeed. */
  isConflict (error: unknown): boolean
}

const attempts = 20

/** Runs statements; errors leave it translated. Once it closes, nothing new begins: `datastore_unavailable`. */
export class SqlDatabase {
  readonly kind: SqlEngine['kind']
  readonly #engine: SqlEngine
  readonly #running = new Set<Promise<unknown>>()
  #closing: Promise<void> | undefined

  constructor (engine: SqlEngine) {
    this.kind = engine.kind
    this.#engine = engine
  }

  read<T> (query: (db: Kysely<Schema>) => Promise<T>): Promise<T> {
    return this.#track(async () => {
      try {
        return await query(this.#engine.db)
      } catch (error) {
        throw this.#engine.translate(error)
      }
    })
  }

  /**
   * All of it or nothing, begun again when another transaction got in the way. SQLite has one connection: `work` must use
   * nothing but its own transaction, or it waits for itself.
   */
  transaction<T> (work: (trx: Transaction<Schema>) => Promise<T>): Promise<T> {
    return this.#track(() => this.#attempt(work))
  }

  /** Has a select keep its rows from other writers until the transaction ends; on SQLite the transaction itself does. */
  locked<Query extends { forUpdate (): Query }> (query: Query): Query {
    return this.kind === 'postgres' ? query.forUpdate() : query
  }

  /** Lets what runs come to its end. */
  close (): Promise<void> {
    return this.#closing ??= (async () => {
      await Promise.allSettled(this.#running)
      await this.#engine.db.destroy()
    })()
  }

  async #attempt<T> (work: (trx: Transaction<Schema>) => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#engine.db.transaction().execute(work)
      } catch (error) {
        if (!this.#engine.isConflict(error)) throw this.#engine.translate(error)
        if (attempt === attempts) {
          throw new SpiffeError('datastore_unavailable', `the change met a concurrent one ${attempts} times`, { cause: error })
        }
      }
    }
  }

  async #track<T> (work: () => Promise<T>): Promise<T> {
    if (this.#closing !== undefined) throw new SpiffeError('datastore_unavailable', 'the datastore is closed')
    const running = work()
    this.#running.add(running)
    try {
      return await running
    } finally {
      this.#running.delete(running)
    }
  }
}
