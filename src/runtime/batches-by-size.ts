export interface BatchLimits {
  /** Items in one batch. */
  readonly most: number
  /** Of all its items together, as they are measured; an item that is larger is a batch of its own. */
  readonly bytes: number
}

/** Of one call: servers, SPIRE's too, take messages of 4 MiB and nothing larger, and make one transaction of it; and progress shows. */
const callLimits: BatchLimits = { most: 200, bytes: 2 * 1024 * 1024 }

/** All items, in order. @param sizeOf bytes of one */
export function * batchesBySize<Item> (
  items: readonly Item[], sizeOf: (item: Item) => number, { most, bytes }: BatchLimits = callLimits
): Generator<readonly Item[], void, undefined> {
  let [batch, size]: [Item[], number] = [[], 0]
  for (const item of items) {
    const more = sizeOf(item)
    if (batch.length > 0 && (batch.length >= most || size + more > bytes)) {
      yield batch
      ;[batch, size] = [[], 0]
    }
    batch.push(item)
    size += more
  }
  if (batch.length > 0) yield batch
}
