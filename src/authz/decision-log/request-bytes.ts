/** Of one piece of memory; a longer request has one of its own. */
const chunkBytes = 65_536

/** Requests one after the other, in the order in which they came. */
export interface Chunk {
  bytes: Buffer
  /** Bytes at its begin that are requests. */
  used: number
  /** Sequence of the newest request in it. */
  last: number
}

/**
 * Copies of the newest requests, outside of the heap: objects that live as long as these would be copied by each collection, and thrown
 * away by the dear kind of it. Memory is used again once all in it are too old.
 */
export class RequestBytes {
  readonly #capacity: number
  readonly #most: number
  readonly #full: Chunk[] = []
  #current: Chunk | undefined
  #total = 0
  #forgotten = -1

  /**
   * @param capacity how many requests are wanted back
   * @param most bytes for all of them: when they are larger, fewer are kept
   */
  constructor (capacity: number, most: number) {
    this.#capacity = capacity
    this.#most = most
  }

  /** Sequence of the newest request that had to make room before its time. */
  get forgotten (): number { return this.#forgotten }

  /** Bytes taken from the system. */
  get size (): number { return this.#total }

  /** @returns where the copy is: it ends at the chunk's `used` of now */
  put (bytes: Uint8Array, sequence: number): Chunk {
    const current = this.#current
    const chunk = current === undefined || current.bytes.length - current.used < bytes.length ? this.#next(bytes.length, sequence) : current
    chunk.bytes.set(bytes, chunk.used)
    chunk.used += bytes.length
    chunk.last = sequence
    return chunk
  }

  #next (length: number, sequence: number): Chunk {
    if (this.#current !== undefined) this.#full.push(this.#current)
    const size = Math.max(chunkBytes, length)
    let free: Chunk | undefined
    for (let [oldest] = this.#full; oldest !== undefined; [oldest] = this.#full) {
      if (oldest.last > sequence - this.#capacity) {
        if (this.#total + size <= this.#most || free !== undefined) break
        this.#forgotten = oldest.last
      }
      this.#full.shift()
      if (free === undefined && oldest.bytes.length === size) {
        free = oldest
        continue
      }
      this.#total -= oldest.bytes.length
      // Whoever knows of the chunk must not keep its memory.
      oldest.bytes = Buffer.alloc(0)
    }
    if (free === undefined) this.#total += size
    return this.#current = { bytes: free?.bytes ?? Buffer.allocUnsafeSlow(size), used: 0, last: sequence }
  }
}
