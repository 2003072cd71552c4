import type { DatabaseSync, SQLInputValue, StatementSync } from 'node:sqlite'
import {
  SqliteAdapter, SqliteIntrospector, SqliteQueryCompiler,
  type CompiledQuery, type DatabaseConnection, type Dialect, type Driver, type QueryResult
} from 'kysely'

/** Kysely on `node:sqlite`. Closes the database when destroyed. */
export function sqliteDialect (database: DatabaseSync, { readOnly = false }: { readonly readOnly?: boolean } = {}): Dialect {
  return {
    createDriver: () => new NodeSqliteDriver(database, readOnly ? 'begin' : 'begin immediate'),
    createQueryCompiler: () => new SqliteQueryCompiler(),
    createAdapter: () => new SqliteAdapter(),
    createIntrospector: db => new SqliteIntrospector(db)
  }
}

/** One connection. Kysely lends it to one user at a time, since the adapter says that there is only one. */
class NodeSqliteDriver implements Driver {
  readonly #database: DatabaseSync
  readonly #connection: NodeSqliteConnection
  readonly #begin: 'begin' | 'begin immediate'

  constructor (database: DatabaseSync, begin: 'begin' | 'begin immediate') {
    this.#database = database
    this.#begin = begin
    this.#connection = new NodeSqliteConnection(database)
  }

  async init (): Promise<void> {}

  async acquireConnection (): Promise<DatabaseConnection> { return this.#connection }
  async releaseConnection (): Promise<void> {}

  /** Whoever may write takes the write lock at once: a transaction that began reading could not be sure to get it later. */
  async beginTransaction (): Promise<void> { this.#connection.run(this.#begin) }
  async commitTransaction (): Promise<void> { this.#connection.run('commit') }

  async rollbackTransaction (): Promise<void> {
    // A full disk makes SQLite roll back by itself.
    if (this.#database.isTransaction) this.#connection.run('rollback')
  }

  async destroy (): Promise<void> { this.#database.close() }
}

interface Prepared { readonly statement: StatementSync, readonly returnsRows: boolean }

const mostPrepared = 200

class NodeSqliteConnection implements DatabaseConnection {
  readonly #database: DatabaseSync
  /** By text, least recently used first. */
  readonly #prepared = new Map<string, Prepared>()

  constructor (database: DatabaseSync) { this.#database = database }

  run (text: string): void { this.#prepare(text).statement.run() }

  async executeQuery<R> ({ sql, parameters }: CompiledQuery): Promise<QueryResult<R>> {
    const { statement, returnsRows } = this.#prepare(sql)
    const values = parameters as readonly SQLInputValue[]
    if (returnsRows) return { rows: statement.all(...values) as R[] }
    const { changes } = statement.run(...values)
    return { rows: [], numAffectedRows: BigInt(changes) }
  }

  streamQuery (): never {
    throw new Error('rows are read in chunks, not streamed: a stream would keep the only connection')
  }

  #prepare (text: string): Prepared {
    const known = this.#prepared.get(text)
    if (known !== undefined) {
      this.#prepared.delete(text)
      this.#prepared.set(text, known)
      return known
    }
    const statement = this.#database.prepare(text)
    const prepared = { statement, returnsRows: statement.columns().length > 0 }
    this.#prepared.set(text, prepared)
    if (this.#prepared.size > mostPrepared) this.#prepared.delete(this.#prepared.keys().next().value as string)
    return prepared
  }
}
