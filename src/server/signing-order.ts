/** What waits, as the order sees it. */
export interface Queued {
  readonly caller: string
  /** Lower goes first. */
  readonly rank: number
  /** Unix milliseconds; sooner goes first. */
  readonly endsBy: number
  /** Units of the next slice. */
  sliceCost (): number
}

interface Place<Job> { readonly job: Job, readonly round: number, readonly turn: number }

/** So much of each caller is equal before the order among callers counts. */
const roundUnits = 64

/**
 * Who is next: callers take rounds, so that one with thousands of signatures holds up nobody with few (start-time fair queueing). Within a
 * round what matters most goes first, by rank; then what ends soonest; then what came first.
 */
export class SigningOrder<Job extends Queued> {
  /** A binary heap; what was removed is skipped when it comes up. */
  #heap: Place<Job>[] = []
  readonly #places = new Map<Job, Place<Job>>()
  /** Units each caller has had or been promised, in virtual time. */
  readonly #finishOf = new Map<string, number>()
  #now = 0
  #turns = 0

  get size (): number { return this.#places.size }

  /** Its next slice. */
  add (job: Job): void {
    const start = Math.max(this.#now, this.#finishOf.get(job.caller) ?? 0)
    this.#finishOf.set(job.caller, start + job.sliceCost())
    const place = { job, round: Math.floor(start / roundUnits), turn: this.#turns++ }
    this.#places.set(job, place)
    this.#heap.push(place)
    this.#rise(this.#heap.length - 1)
  }

  remove (job: Job): void {
    this.#places.delete(job)
    // Callers that come and give up again must not fill the heap. In order, it is one as well.
    if (this.#heap.length > 2 * this.#places.size + 64) this.#heap = [...this.#places.values()].toSorted(compare)
  }

  take (): Job | undefined {
    for (let first = this.#pop(); first !== undefined; first = this.#pop()) {
      const { job, round } = first
      if (this.#places.get(job) !== first) continue
      this.#places.delete(job)
      this.#now = Math.max(this.#now, round * roundUnits)
      return job
    }
    // Nobody waits: what callers had is forgotten, with who they are.
    this.#finishOf.clear()
    this.#now = 0
    return undefined
  }

  #pop (): Place<Job> | undefined {
    const first = this.#heap[0]
    const last = this.#heap.pop()
    if (first === undefined || last === undefined || this.#heap.length === 0) return first
    this.#heap[0] = last
    this.#sink()
    return first
  }

  #rise (at: number): void {
    for (let index = at; index > 0;) {
      const parent = (index - 1) >> 1
      if (!this.#swapIfBefore(index, parent)) return
      index = parent
    }
  }

  #sink (): void {
    for (let index = 0; ;) {
      const [left, right] = [2 * index + 1, 2 * index + 2]
      if (left >= this.#heap.length) return
      const child = right < this.#heap.length && isBefore(this.#at(right), this.#at(left)) ? right : left
      if (!this.#swapIfBefore(child, index)) return
      index = child
    }
  }

  #swapIfBefore (lower: number, upper: number): boolean {
    const [low, high] = [this.#at(lower), this.#at(upper)]
    if (!isBefore(low, high)) return false
    this.#heap[lower] = high
    this.#heap[upper] = low
    return true
  }

  #at (index: number): Place<Job> { return this.#heap[index] as Place<Job> }
}

function isBefore<Job extends Queued> (a: Place<Job>, b: Place<Job>): boolean {
  return compare(a, b) < 0
}

function compare<Job extends Queued> (a: Place<Job>, b: Place<Job>): number {
  return a.round - b.round || a.job.rank - b.job.rank || a.job.endsBy - b.job.endsBy || a.turn - b.turn
}
