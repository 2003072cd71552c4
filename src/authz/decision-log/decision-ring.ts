import type { Decision } from '../policy/decision.ts'
import { DecisionRecord, sequenceOf } from './decision-record.ts'
import type { EncodedRequest, ReadEncoded } from './encoded-request.ts'
import { type Chunk, RequestBytes } from './request-bytes.ts'

/** For requests that came as bytes. */
const mostBytes = 16 * 1_048_576

/** One decision; used again and again. */
interface Slot {
  sequence: number
  /** `undefined`: the request is in `chunk`. */
  record: DecisionRecord | undefined
  chunk: Chunk | undefined
  start: number
  end: number
  read: ReadEncoded | undefined
  decision: Decision | undefined
  timeMs: number
  latencyMs: number
}

/** The last decisions of this process, of which the oldest makes room for the newest. */
export class DecisionRing {
  readonly capacity: number
  readonly #process: string
  readonly #slots: Array<Slot | undefined>
  readonly #bytes: RequestBytes
  #count = 0

  /**
   * @param process of the records' IDs
   * @param most bytes of requests that came as such; with larger ones fewer decisions are remembered
   */
  constructor (capacity: number, process: string, most = mostBytes) {
    this.capacity = capacity
    this.#process = process
    this.#slots = Array.from<Slot | undefined>({ length: capacity })
    this.#bytes = new RequestBytes(capacity, most)
  }

  /**
   * @param record each with the sequence after that of the one before, from 0
   * @param encoded its request; copied, so that the record need not be kept
   */
  add (record: DecisionRecord, encoded?: EncodedRequest): void {
    const { sequence } = record
    const at = sequence % this.capacity
    const slot = this.#slots[at] ??= newSlot()
    this.#count = sequence + 1
    slot.sequence = sequence
    if (encoded === undefined) {
      slot.record = record
      slot.chunk = slot.decision = undefined
      return
    }
    const { bytes, read } = encoded
    const chunk = this.#bytes.put(bytes, sequence)
    slot.record = undefined
    slot.chunk = chunk
    slot.start = chunk.used - bytes.length
    slot.end = chunk.used
    slot.read = read
    slot.decision = record.decision
    slot.timeMs = record.request.time.getTime()
    slot.latencyMs = record.latencyMs
  }

  byDecisionId (id: string): DecisionRecord | undefined {
    const sequence = sequenceOf(this.#process, id)
    return sequence === undefined ? undefined : this.#at(sequence)
  }

  /** All decisions of a request, the newest first: of its own ID there may be several, one per hop or attempt. */
  byRequestId (id: string): readonly DecisionRecord[] {
    const found: DecisionRecord[] = []
    // Reading all requests to find one would take long.
    const sought = /^[\x20-\x7e]+$/.test(id) ? Buffer.from(id) : undefined
    for (let sequence = this.#count - 1; sequence >= this.#oldest; sequence--) {
      const slot = this.#slots[sequence % this.capacity] as Slot
      if (sought !== undefined && slot.record === undefined && !bytesOf(slot).includes(sought)) continue
      const record = this.#recordOf(slot)
      if (record.requestId === id) found.push(record)
    }
    return found
  }

  /** When the oldest decision that is remembered was taken. */
  get since (): Date | undefined { return this.#at(this.#oldest)?.request.time }

  get #oldest (): number { return Math.max(0, this.#count - this.capacity, this.#bytes.forgotten + 1) }

  #at (sequence: number): DecisionRecord | undefined {
    if (sequence < this.#oldest || sequence >= this.#count) return undefined
    return this.#recordOf(this.#slots[sequence % this.capacity] as Slot)
  }

  #recordOf (slot: Slot): DecisionRecord {
    const { record, read, timeMs, decision, sequence, latencyMs } = slot
    if (record !== undefined) return record
    const { request, requestId } = (read as ReadEncoded)(bytesOf(slot), new Date(timeMs))
    return new DecisionRecord(this.#process, sequence, request, decision as Decision, latencyMs, requestId)
  }
}

function bytesOf ({ chunk, start, end }: Slot): Buffer { return (chunk as Chunk).bytes.subarray(start, end) }

function newSlot (): Slot {
  return {
    sequence: 0, record: undefined, chunk: undefined, start: 0, end: 0, read: undefined, decision: undefined, timeMs: 0, latencyMs: 0.5
  }
}
