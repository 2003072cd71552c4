import { SpiffeError } from '../../spiffe/errors.ts'
import { isStorableText } from '../../spiffe/storable-text.ts'
import type { ColumnKind, TableSpec } from './tables.ts'

/** A value as it is written down: bytes are base64. */
export type Written = string | number | null
/** A row as it is written down, in the order of its table's columns. */
export type WrittenRow = readonly Written[]
/** A value as databases take it. */
export type Stored = string | number | Uint8Array | null

/** Rows of one table, in the order of its key. */
export interface RowChunk {
  readonly table: TableSpec
  /** Some of the table's columns; all but for a backup of an older schema. */
  readonly columns: readonly string[]
  readonly rows: readonly WrittenRow[]
}

/** How far long work has come: rows that were read, compared, …  */
export type OnRows = (what: 'saved' | 'checked' | 'compared' | 'restored' | 'copied' | 'verified', done: number, total: number) => void

export function writeDown (table: TableSpec, row: Readonly<Record<string, unknown>>): WrittenRow {
  return Object.keys(table.columns).map(column => {
    const value = row[column]
    return value instanceof Uint8Array ? Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('base64') : value as Written
  })
}

/** A line each. */
export function formatRows (rows: readonly WrittenRow[]): string {
  return rows.map(row => `${JSON.stringify(row)}\n`).join('')
}

/** @param value checked by `checkWritten` */
export function toStored (value: Written, kind: ColumnKind): Stored {
  return kind.startsWith('bytes') && typeof value === 'string' ? Buffer.from(value, 'base64') : value
}

/** One row by the names of its columns, as the stores' own queries give it. */
export function toRecord ({ table, columns }: Pick<RowChunk, 'table' | 'columns'>, row: WrittenRow): Record<string, Stored> {
  return Object.fromEntries(columns.map((column, index) => [column, toStored(row[index] ?? null, table.columns[column] as ColumnKind)]))
}

/** @throws {SpiffeError} `backup_malformed` unless databases can hold the value in such a column */
export function checkWritten (value: unknown, kind: ColumnKind, where: string): void {
  if (value === null && kind.endsWith('?')) return
  const wanted = kind.replace('?', '')
  if (!(wanted === 'int' ? Number.isSafeInteger(value) : typeof value === 'string' && isText(value, wanted))) {
    throw new SpiffeError('backup_malformed', `${where} is no ${wanted}`)
  }
}

function isText (text: string, kind: string): boolean {
  return kind === 'bytes' ? isBase64(text) : isStorableText(text) && (kind !== 'json' || isJson(text))
}

function isBase64 (text: string): boolean {
  return Buffer.from(text, 'base64').toString('base64') === text
}

function isJson (text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}
