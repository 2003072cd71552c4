import { parsePageToken, type PageRequest } from '../page.ts'

interface Numbered { readonly row_id: number }

/** Reads at most `limit` rows with a `row_id` above `after`, in the order of `row_id`. */
export type ReadRows<Row extends Numbered> = (after: number, limit: number) => Promise<readonly Row[]>

const chunkSize = 2_000

/** Every row with a `row_id` above `from`, chunk by chunk. */
export async function * readChunks<Row extends Numbered> (readRows: ReadRows<Row>, from = 0): AsyncGenerator<readonly Row[]> {
  for (let after = from; ;) {
    const rows = await readRows(after, chunkSize)
    if (rows.length > 0) yield rows
    if (rows.length < chunkSize) return
    after = rows.at(-1)?.row_id ?? after
  }
}

/**
 * One page, or everything.
 * @param keep what a page is filled with; the rows between are skipped, and the page is as full as without them
 * @throws {SpiffeError} `page_token_malformed`
 */
export async function readPage<Row extends Numbered> (
  { size, token }: PageRequest, readRows: ReadRows<Row>, keep?: (row: Row) => boolean
): Promise<{ readonly rows: readonly Row[], readonly nextPageToken: string }> {
  if (keep !== undefined) return await readKept({ size, token }, readRows, keep)
  if (size > 0) {
    const rows = await readRows(parsePageToken(token), size)
    return { rows, nextPageToken: rows.length === 0 ? '' : String(rows.at(-1)?.row_id) }
  }
  const all: Row[] = []
  for await (const rows of readChunks(readRows)) for (const row of rows) all.push(row)
  return { rows: all, nextPageToken: '' }
}

/** How many rows are kept. */
export async function countKept<Row extends Numbered> (readRows: ReadRows<Row>, keep: (row: Row) => boolean): Promise<number> {
  let count = 0
  for await (const rows of readChunks(readRows)) count += rows.filter(keep).length
  return count
}

async function readKept<Row extends Numbered> ({ size, token }: PageRequest, readRows: ReadRows<Row>, keep: (row: Row) => boolean) {
  const kept: Row[] = []
  for await (const rows of readChunks(readRows, size > 0 ? parsePageToken(token) : 0)) {
    for (const row of rows) {
      if (!keep(row)) continue
      kept.push(row)
      if (kept.length === size) return { rows: kept, nextPageToken: String(row.row_id) }
    }
  }
  return { rows: kept, nextPageToken: size > 0 ? String(kept.at(-1)?.row_id ?? '') : '' }
}
