import { z } from 'zod'
import { SpiffeError } from '../../spiffe/errors.ts'
import { newestSchema } from '../migrations/migrate.ts'
import { parseHeader, parseLine, type BackupHeader } from './backup-header.ts'
import { readLines } from './backup-lines.ts'
import { checkWritten, type RowChunk, type WrittenRow } from './row.ts'
import { savedTables, type ColumnKind, type TableSpec } from './tables.ts'

/** Begins the rows of a table. */
const tableLine = z.strictObject({ table: z.string(), columns: z.array(z.string()) })

/**
 * The rows of a backup in the order of its tables, at most `atOnce` of their table together. They may only be relied on once this has come
 * to its end: the checksum is the last line.
 * @param onHeader gets the first line before any row
 * @throws {SpiffeError} `backup_malformed`, `backup_newer`, `file_unusable`
 */
export async function * readBackup (path: string, onHeader: (header: BackupHeader) => void): AsyncGenerator<RowChunk> {
  let header: BackupHeader | undefined
  let section: Section | undefined
  let left: TableSpec[] = []
  for await (const line of readLines(path)) {
    if (header === undefined) {
      header = parseHeader(line)
      left = tablesOf(header)
      onHeader(header)
    } else if (line.startsWith('[')) {
      if (section === undefined) throw malformed('rows come before the name of their table')
      section.add(parseLine(line))
      if (section.full) yield section.take()
    } else {
      if (section !== undefined) yield * section.end()
      section = openSection(line, left, header)
    }
  }
  if (section !== undefined) yield * section.end()
  if (header === undefined || left.length > 0 || section === undefined) throw malformed('tables are missing')
}

/** An older schema may lack tables and columns; they stay empty, or as a new column's default says. */
function tablesOf ({ counts, schema }: BackupHeader): TableSpec[] {
  const held = savedTables.filter(({ name }) => Object.hasOwn(counts, name))
  const whole = held.length === savedTables.length || schema < newestSchema
  if (!whole || held.length !== Object.keys(counts).length) throw malformed('it does not hold the tables that it should')
  return held
}

function openSection (line: string, left: TableSpec[], { counts, schema }: BackupHeader): Section {
  const { data } = tableLine.safeParse(parseLine(line))
  const table = left.shift()
  if (data === undefined || table === undefined || data.table !== table.name) throw malformed('its tables are not in order')
  const known = Object.keys(table.columns)
  if (new Set(data.columns).size !== data.columns.length || !data.columns.every(column => known.includes(column))) {
    throw malformed(`it has columns that table ${table.name} does not have`)
  }
  const needed = schema < newestSchema ? table.key : known
  if (!needed.every(column => data.columns.includes(column))) throw malformed(`table ${table.name} lacks columns`)
  return new Section(table, data.columns, counts[table.name] as number)
}

/** The rows of one table as they are read. */
class Section {
  readonly #table: TableSpec
  readonly #columns: readonly string[]
  readonly #kinds: readonly ColumnKind[]
  readonly #expected: number
  #seen = 0
  #rows: WrittenRow[] = []

  constructor (table: TableSpec, columns: readonly string[], expected: number) {
    this.#table = table
    this.#columns = columns
    this.#kinds = columns.map(column => table.columns[column] as ColumnKind)
    this.#expected = expected
  }

  get full (): boolean { return this.#rows.length === this.#table.atOnce }

  add (row: unknown): void {
    const { name } = this.#table
    if (!Array.isArray(row) || row.length !== this.#kinds.length) throw malformed(`a row of table ${name} has not its columns`)
    for (const [index, kind] of this.#kinds.entries()) checkWritten(row[index], kind, `${name}.${this.#columns[index]}`)
    this.#seen++
    this.#rows.push(row as WrittenRow)
  }

  take (): RowChunk {
    const rows = this.#rows
    this.#rows = []
    return { table: this.#table, columns: this.#columns, rows }
  }

  * end (): Generator<RowChunk> {
    if (this.#seen !== this.#expected) {
      throw malformed(`table ${this.#table.name} has ${this.#seen} rows where the first line says ${this.#expected}`)
    }
    if (this.#rows.length > 0) yield this.take()
  }
}

function malformed (what: string): SpiffeError { return new SpiffeError('backup_malformed', `the backup is damaged: ${what}`) }
