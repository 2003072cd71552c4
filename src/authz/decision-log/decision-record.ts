import type { Decision } from '../policy/decision.ts'
import type { AuthzRequest } from '../policy/request.ts'

const traceparent = /^(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-|$)/

/** Of a decision that a proxy took by what it was told, and reported: how long it took nobody knows. */
export interface ProxyReport {
  /** JSON pointers into the input of what the proxy did not report. */
  readonly unseen: readonly string[]
}

/** One decision as it was taken: references alone, nothing of it is written out until somebody wants it. */
export class DecisionRecord {
  /** Of this process, from 0. */
  readonly sequence: number
  readonly request: AuthzRequest
  readonly decision: Decision
  /** Milliseconds; 0 with a `report`. */
  readonly latencyMs: number
  /** `undefined`: this process decided. */
  readonly report: ProxyReport | undefined
  readonly #process: string
  readonly #requestId: string | undefined

  /**
   * @param process 18 hexadecimal digits by chance, the same for all records of a process
   * @param requestId where it is known otherwise than by the header
   */
  constructor (
    process: string, sequence: number, request: AuthzRequest, decision: Decision, latencyMs: number, requestId?: string,
    report?: ProxyReport
  ) {
    this.#process = process
    this.sequence = sequence
    this.request = request
    this.decision = decision
    this.latencyMs = latencyMs
    this.#requestId = requestId
    this.report = report
  }

  get id (): string { return formatDecisionId(this.#process, this.sequence) }

  /** Of the caller's request, as proxies hand it on. */
  get requestId (): string | undefined { return this.#requestId ?? this.request.http?.headers.get('x-request-id') }

  /** Of W3C Trace Context §3.2; `undefined` for a header that is none. */
  get trace (): { readonly traceId: string, readonly spanId: string, readonly sampled: boolean } | undefined {
    const header = this.request.http?.headers.get('traceparent')
    const [, traceId, spanId, flags = ''] = traceparent.exec(header ?? '') ?? []
    if (traceId === undefined || spanId === undefined) return undefined
    return { traceId, spanId, sampled: (Number.parseInt(flags, 16) & 1) === 1 }
  }
}

/** A UUID of version 8 (RFC 9562 §5.8): who decided, and the how manieth of its decisions it is, in the last 12 digits. */
export function formatDecisionId (process: string, sequence: number): string {
  const digits = sequence.toString(16).padStart(12, '0')
  return `${process.slice(0, 8)}-${process.slice(8, 12)}-8${process.slice(12, 15)}-8${process.slice(15, 18)}-${digits.slice(-12)}`
}

/** @returns `undefined` for an ID that is not of this process */
export function sequenceOf (process: string, id: string): number | undefined {
  const sequence = Number.parseInt(id.slice(-12), 16)
  return Number.isSafeInteger(sequence) && formatDecisionId(process, sequence) === id.toLowerCase() ? sequence : undefined
}
