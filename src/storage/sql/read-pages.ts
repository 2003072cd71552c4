import { parsePageToken, type PageRequest } from '../page.ts'

interface Numbered { readonly row_id: number }

/** Reads at most `limit` rows with a `row_id` above `after`, in the order of `row_id`. */
export type ReadRows<Row extends Numbered> = (after: number, limit: number) => Promise<readonly Row[]>

const chunkSize = 2_000

/** Every row, chunk by chunk. */
export async function * readChunks<Row extends Numbered> (readRows: ReadRows<Row>): AsyncGenerator<readonly Row[]> {
  for (let after = 0; ;) {
    const rows = await readRows(after, chunkSize)
    if (rows.length > 0) yield rows
    if (rows.length < chunkSize) return
    after = rows.at(-1)?.row_id ?? after
  }
}

/** One page, or everything. @throws {SpiffeError} `page_token_malformed` */
export async function readPage<Row extends Numbered> ({ size, token }: PageRequest, readRows: ReadRows<Row>)
  : Promise<{ readonly rows: readonly Row[], readonly nextPageToken: string }> {
  if (size > 0) {
    const rows = await readRows(parsePageToken(token), size)
    return { rows, nextPageToken: rows.length === 0 ? '' : String(rows.at(-1)?.row_id) }
  }
  const all: Row[] = []
  for await (const rows of readChunks(readRows)) for (const row of rows) all.push(row)
  return { rows: all, nextPageToken: '' }
}
