import type { Transaction } from 'kysely'
import type { Schema } from '../sql/schema.ts'

/** What the databases spell differently. */
export interface ColumnTypes {
  /** A key that the database numbers in order of insertion. */
  readonly rowId: string
  readonly int64: string
  readonly bytes: string
  /** What follows the columns of a table. */
  readonly table: string
  /** The same for a table that is only looked up by its primary key. */
  readonly keyedTable: string
}

/**
 * One forward step. Never edited once released. Backups of before are restored by putting their rows into the newest schema: a new column
 * needs a default that is true of old rows, and `backup/tables.ts` has to know of new columns and tables.
 */
export interface Migration {
  readonly number: number
  readonly name: string
  up (trx: Transaction<Schema>, types: ColumnTypes): Promise<void>
}
