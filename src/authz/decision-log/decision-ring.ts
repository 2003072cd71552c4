import { DecisionRecord, sequenceOf } from './decision-record.ts'

/** The last decisions of this process, of which the oldest makes room for the newest. */
export class DecisionRing {
  readonly capacity: number
  readonly #process: string
  readonly #slots: (DecisionRecord | undefined)[]
  #next = 0

  /** @param process of the records' IDs */
  constructor (capacity: number, process: string) {
    this.capacity = capacity
    this.#process = process
    this.#slots = Array.from<DecisionRecord | undefined>({ length: capacity })
  }

  /** @param record each with the sequence after that of the one before */
  add (record: DecisionRecord): void {
    this.#slots[this.#next] = record
    this.#next = this.#next + 1 === this.capacity ? 0 : this.#next + 1
  }

  byDecisionId (id: string): DecisionRecord | undefined {
    const sequence = sequenceOf(this.#process, id)
    const record = sequence === undefined ? undefined : this.#slots[sequence % this.capacity]
    return record?.sequence === sequence ? record : undefined
  }

  /** All decisions of a request, the newest first: of its own ID there may be several, one per hop or attempt. */
  byRequestId (id: string): readonly DecisionRecord[] {
    return this.latest().filter(({ requestId }) => requestId === id)
  }

  /** The newest first. */
  latest (): readonly DecisionRecord[] {
    const from = [...this.#slots.slice(this.#next), ...this.#slots.slice(0, this.#next)]
    return from.filter(record => record !== undefined).toReversed()
  }
}
