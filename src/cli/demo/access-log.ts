import { parseAccessRecord, type AccessRecord } from './access-record.ts'
import { until } from './until.ts'

const kept = 1_000
const flushTimeoutMs = 30_000

/** The requests an Envoy has told of, the newest thousand. */
export class AccessLog {
  #records: AccessRecord[] = []
  readonly #serials = new Map<string, Set<string>>()

  readonly add = (line: string): void => {
    const record = parseAccessRecord(line)
    if (record === undefined) return
    this.#records = [...this.#records.slice(1 - kept), record]
    const serials = this.#serials.get(record.peerId) ?? new Set()
    this.#serials.set(record.peerId, serials.add(record.peerSerial))
  }

  /** The serial numbers under which this peer was seen, oldest first. */
  serialsOf (peerId: string): readonly string[] { return [...this.#serials.get(peerId) ?? []] }

  /** Envoy writes its log a little later than it answers. */
  async find (requestId: string, signal: AbortSignal): Promise<AccessRecord> {
    const look = () => this.#records.find(record => record.requestId === requestId)
    return await until('an access log line of the call', look, flushTimeoutMs, signal)
  }
}
