/** Slices of at most `size`, in order. */
export function * chunks<T> (items: readonly T[], size: number): Generator<readonly T[]> {
  for (let start = 0; start < items.length; start += size) yield items.slice(start, start + size)
}

/** Ids per statement: well below what either database takes as parameters. */
export const idsPerStatement = 5_000

/** Rows per multi-row insert. */
export const rowsPerInsert = 500
