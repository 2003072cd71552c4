import { randomBytes } from 'node:crypto'
import { runTasks } from '../../runtime/tasks.ts'
import type { Decision } from '../policy/decision.ts'
import type { AuthzRequest } from '../policy/request.ts'
import type { DecisionsAnswer } from './decision-api.ts'
import { decisionEvent, type EventSettings } from './decision-event.ts'
import { DecisionRecord, type ProxyReport } from './decision-record.ts'
import { DecisionRing } from './decision-ring.ts'
import type { EncodedRequest } from './encoded-request.ts'
import type { Sampling } from './sampling.ts'
import type { DecisionSink } from './sink.ts'

export interface DecisionOrigin {
  readonly encoded?: EncodedRequest | undefined
  readonly report?: ProxyReport | undefined
}

export interface DecisionLogOptions extends EventSettings {
  /** How many decisions are remembered; 10,000. Of requests that come as bytes, fewer when they are more than 16 MiB. */
  readonly remembered?: number
  readonly sinks?: readonly DecisionSink[]
  /** What of allowed decisions sinks get; what is remembered is remembered whole. */
  readonly sampling?: Sampling | undefined
}

/**
 * Writes down what was decided. Recording keeps references, or the request as it came: text is made when somebody reads it. It never waits
 * for a sink.
 */
export class DecisionLog {
  readonly #process = randomBytes(9).toString('hex')
  readonly #ring: DecisionRing
  readonly #options: DecisionLogOptions
  readonly #sinks: readonly DecisionSink[]
  #sequence = 0

  constructor (options: DecisionLogOptions) {
    this.#options = options
    this.#sinks = options.sinks ?? []
    this.#ring = new DecisionRing(options.remembered ?? 10_000, this.#process)
  }

  /**
   * @param request not changed by anybody from now on
   * @param latencyMs how long the decision took
   * @param requestId of the caller's request, where it is known otherwise than by `x-request-id`
   * @param origin the same request as it came as bytes, by which it is remembered; the report of a proxy that decided
   * @returns what the decision is remembered by; its `id` can be given to the caller
   */
  record (
    request: AuthzRequest, decision: Decision, latencyMs: number, requestId?: string, { encoded, report }: DecisionOrigin = {}
  ): DecisionRecord {
    const record = new DecisionRecord(this.#process, this.#sequence++, request, decision, latencyMs, requestId, report)
    this.#ring.add(record, encoded)
    if (this.#sinks.length > 0 && this.#options.sampling?.keeps(record) !== false) for (const sink of this.#sinks) sink.offer(record)
    return record
  }

  /** Answers `decisionsPath`, masked. */
  find ({ request, decision }: { readonly request?: string | undefined, readonly decision?: string | undefined }): DecisionsAnswer {
    const one = decision === undefined ? undefined : this.#ring.byDecisionId(decision)
    const found = request !== undefined ? this.#ring.byRequestId(request) : one === undefined ? [] : [one]
    return {
      decisions: found.map(record => decisionEvent(record, this.#options)),
      remembered: { capacity: this.#ring.capacity, since: this.#ring.since?.toISOString() }
    }
  }

  /** Runs all sinks until the signal aborts and each has written what it had, or given up. */
  async run (signal: AbortSignal): Promise<void> {
    await runTasks(signal, this.#sinks.map(sink => signal => sink.run(signal)))
  }
}
