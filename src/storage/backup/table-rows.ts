import { sql, type RawBuilder, type Transaction } from 'kysely'
import type { Schema } from '../sql/schema.ts'
import { toStored, writeDown, type RowChunk, type Stored } from './row.ts'
import type { ColumnKind, TableSpec } from './tables.ts'

type Kind = 'sqlite' | 'postgres'

export async function countRows (trx: Transaction<Schema>, table: Pick<TableSpec, 'name'>): Promise<number> {
  const { rows } = await sql<{ count: number }>`select count(*) as count from ${sql.table(table.name)}`.execute(trx)
  return rows[0]?.count ?? 0
}

/** Every row of a table, a chunk at a time. */
export async function * readRows (trx: Transaction<Schema>, kind: Kind, table: TableSpec): AsyncGenerator<RowChunk> {
  const columns = Object.keys(table.columns)
  const selected = sql.join(columns.map(column => sql.ref(column)))
  const key = sql.join(table.key.map(column => orderedBy(table, column, kind)))
  for (let after: readonly Stored[] | undefined; ;) {
    const rest = after === undefined ? sql`` : sql`where (${key}) > (${sql.join(after)})`
    const { rows } = await sql<Record<string, Stored>>`select ${selected} from ${sql.table(table.name)} ${rest}
      order by ${key} limit ${sql.lit(table.atOnce)}`.execute(trx)
    if (rows.length > 0) yield { table, columns, rows: rows.map(row => writeDown(table, row)) }
    if (rows.length < table.atOnce) return
    after = table.key.map(column => rows.at(-1)?.[column] as Stored)
  }
}

/** Text in the order of its bytes, whatever language the database was made for. */
function orderedBy (table: TableSpec, column: string, kind: Kind): RawBuilder<unknown> {
  return kind === 'postgres' && table.columns[column] === 'text' ? sql`${sql.ref(column)} collate "C"` : sql`${sql.ref(column)}`
}

/** Parameters per statement: half of what either database takes. */
const mostValues = 16_000

/** @param known what becomes of a row whose key is there already: an error, or nothing */
export async function insertRows (
  trx: Transaction<Schema>, { table, columns, rows }: RowChunk, known: 'refuse' | 'keep' = 'refuse'
): Promise<void> {
  const kinds = columns.map(column => table.columns[column] as ColumnKind)
  const named = sql.join(columns.map(column => sql.ref(column)))
  const atOnce = Math.floor(mostValues / columns.length)
  const unless = known === 'keep' ? sql`on conflict do nothing` : sql``
  for (let start = 0; start < rows.length; start += atOnce) {
    const values = rows.slice(start, start + atOnce)
      .map(row => sql`(${sql.join(kinds.map((kind, index) => toStored(row[index] ?? null, kind)))})`)
    await sql`insert into ${sql.table(table.name)} (${named}) values ${sql.join(values)} ${unless}`.execute(trx)
  }
}

/** Forgets every row of some tables, which nothing else refers to. */
export async function emptyTables (trx: Transaction<Schema>, kind: Kind, names: readonly (keyof Schema)[]): Promise<void> {
  if (kind === 'postgres') {
    await sql`truncate ${sql.join(names.map(name => sql.table(name)))}`.execute(trx)
    return
  }
  for (const name of names) await sql`delete from ${sql.table(name)}`.execute(trx)
}

/** Has the database go on numbering rows after the highest there is; SQLite does so by itself. */
export async function continueNumbering (trx: Transaction<Schema>, kind: Kind, all: readonly TableSpec[]): Promise<void> {
  if (kind === 'sqlite') return
  for (const { name, columns } of all) {
    if (columns['row_id'] === undefined) continue
    await sql`select setval(pg_get_serial_sequence(${name}, 'row_id'), coalesce(max(row_id), 1), max(row_id) is not null)
      from ${sql.table(name)}`.execute(trx)
  }
}
