import type { Kysely, Transaction, TransactionBuilder } from 'kysely'
import { SpiffeError } from '../../spiffe/errors.ts'
import { appendChanges, ChangeSet } from './change-set.ts'
import type { Schema } from './schema.ts'

/** What the stores ask of either database. */
export interface SqlEngine {
  readonly kind: 'sqlite' | 'postgres'
  readonly db: Kysely<Schema>
  /** Turns an error of the driver into a refusal; gives back what it does not know. */
  readonly translate: (error: unknown) => unknown
  /** Whether another transaction got in the way, so that a fresh attempt can succeed. */
  readonly isConflict: (error: unknown) => boolean
  /** Whether a connection that worked was lost, so that another one can serve. */
  readonly isLost: (error: unknown) => boolean
  /** Whether it is not known, after a COMMIT that ended with this error, if it was made for good. */
  readonly isOutcomeUnknown: (error: unknown) => boolean
  /** After a change was committed. */
  onChange? (): void
}

/** Says, within a transaction, that its writer may still write; throws when it may not. */
export type Fence = (trx: Transaction<Schema>) => Promise<void>

const attempts = 20

/** Shared with the fenced views of a database: they end with it. */
interface Life {
  readonly running: Set<Promise<unknown>>
  closing?: Promise<void>
}

/**
 * Runs statements; errors leave it translated. Once it closes, nothing new begins: `datastore_unavailable`.
 *
 * What is done again after an error, and what is not:
 * | what failed, and when | again |
 * | --- | --- |
 * | a transaction that met another one (conflict, deadlock), at any statement | up to 20 times: it was rolled back |
 * | a read or a snapshot whose connection was lost | once, on another connection: it changed nothing |
 * | a single `write` whose connection was lost | once: twice is harmless |
 * | a transaction whose connection was lost before its COMMIT was sent | once: without a COMMIT the database rolls back |
 * | a COMMIT that was sent and not answered | never: `datastore_outcome_unknown` |
 * | anything in work that is to run `once` | never |
 * | a connection that cannot be had, an answer that did not come in time | never: the caller is told at once, and may ask again |
 */
export class SqlDatabase {
  readonly kind: SqlEngine['kind']
  readonly #engine: SqlEngine
  readonly #fence: Fence | undefined
  readonly #life: Life

  constructor (engine: SqlEngine, fence?: Fence, life: Life = { running: new Set() }) {
    this.kind = engine.kind
    this.#engine = engine
    this.#fence = fence
    this.#life = life
  }

  /** The same database, whose transactions all begin with `fence`. Not to be closed. */
  fenced (fence: Fence): SqlDatabase { return new SqlDatabase(this.#engine, fence, this.#life) }

  read<T> (query: (db: Kysely<Schema>) => Promise<T>): Promise<T> {
    return this.#track(() => this.#readOnly(() => query(this.#engine.db)))
  }

  /**
   * All of it or nothing, begun again when another transaction got in the way. SQLite has one connection: `work` must use
   * nothing but its own transaction, or it waits for itself.
   */
  transaction<T> (work: (trx: Transaction<Schema>) => Promise<T>): Promise<T> {
    const fence = this.#fence
    return this.#track(() => this.#attempt(fence === undefined ? work : async trx => {
      await fence(trx)
      return await work(trx)
    }))
  }

  /**
   * A transaction that changes what replicas keep in memory: what `work` notes in its `ChangeSet` becomes the next number of the log, as
   * the last statement before the commit.
   */
  async change<T> (at: Date, work: (trx: Transaction<Schema>, changes: ChangeSet) => Promise<T>): Promise<T> {
    let changed = false
    const result = await this.transaction(async trx => {
      const changes = new ChangeSet()
      const result = await work(trx, changes)
      changed = !changes.empty
      if (changed) await appendChanges(trx, this.kind, changes, at)
      return result
    })
    if (changed) this.#engine.onChange?.()
    return result
  }

  /** All of it or nothing, and never begun again: for work that takes long or is told of as it goes. */
  once<T> (work: (trx: Transaction<Schema>) => Promise<T>): Promise<T> {
    return this.#track(async () => {
      let committing = false
      try {
        return await this.#begin('read committed').execute(async trx => {
          const result = await work(trx)
          committing = true
          return result
        })
      } catch (error) {
        if (committing && this.#engine.isOutcomeUnknown(error)) throw outcomeUnknown(error)
        throw this.#engine.translate(error)
      }
    })
  }

  /**
   * One statement that writes, without a transaction around it: half as dear. Made again, once, when its connection was lost: twice must be
   * harmless. No fence guards it.
   */
  write<T> (statement: (db: Kysely<Schema>) => Promise<T>): Promise<T> {
    return this.#track(() => this.#readOnly(() => statement(this.#engine.db)))
  }

  /** Reads that all see the same state of the database. */
  snapshot<T> (work: (trx: Transaction<Schema>) => Promise<T>): Promise<T> {
    return this.#track(() => this.#readOnly(() => {
      const transaction = this.#begin('repeatable read')
      return (this.kind === 'postgres' ? transaction.setAccessMode('read only') : transaction).execute(work)
    }))
  }

  /** Has a select keep its rows from other writers until the transaction ends; on SQLite the transaction itself does. */
  locked<Query extends { forUpdate (): Query }> (query: Query): Query {
    return this.kind === 'postgres' ? query.forUpdate() : query
  }

  /** Lets what runs come to its end. */
  close (): Promise<void> {
    return this.#life.closing ??= (async () => {
      await Promise.allSettled(this.#life.running)
      await this.#engine.db.destroy()
    })()
  }

  async #readOnly<T> (read: () => Promise<T>): Promise<T> {
    try {
      return await read().catch(error => {
        if (this.#engine.isLost(error)) return read()
        throw error
      })
    } catch (error) {
      throw this.#engine.translate(error)
    }
  }

  async #attempt<T> (work: (trx: Transaction<Schema>) => Promise<T>): Promise<T> {
    const { isConflict, isLost, isOutcomeUnknown, translate } = this.#engine
    let lost = false
    for (let attempt = 1; ; attempt++) {
      let committing = false
      try {
        return await this.#begin('read committed').execute(async trx => {
          const result = await work(trx)
          committing = true
          return result
        })
      } catch (error) {
        if (committing && isOutcomeUnknown(error)) throw outcomeUnknown(error)
        if (isLost(error) && !lost) {
          lost = true
          continue
        }
        if (!isConflict(error)) throw translate(error)
        if (attempt >= attempts) {
          throw new SpiffeError('datastore_unavailable', `the change met a concurrent one ${attempts} times`, { cause: error })
        }
      }
    }
  }

  /**
   * Whatever a database or a role says by default: who waits for a row must then see it as it is, or of many writers, which all end with
   * the same row, most would fail.
   */
  #begin (isolation: 'read committed' | 'repeatable read'): TransactionBuilder<Schema> {
    const transaction = this.#engine.db.transaction()
    return this.kind === 'postgres' ? transaction.setIsolationLevel(isolation) : transaction
  }

  async #track<T> (work: () => Promise<T>): Promise<T> {
    if (this.#life.closing !== undefined) throw new SpiffeError('datastore_unavailable', 'the datastore is closed')
    const running = work()
    this.#life.running.add(running)
    try {
      return await running
    } finally {
      this.#life.running.delete(running)
    }
  }
}

function outcomeUnknown (cause: unknown): SpiffeError {
  const reason = cause instanceof Error ? cause.message : String(cause)
  return new SpiffeError('datastore_outcome_unknown', `the database did not confirm a change for good: ${reason}`, { cause })
}
