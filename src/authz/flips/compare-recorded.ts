import type { DecisionEvent } from '../decision-log/decision-event.ts'
import { parseRequestJson } from '../decision-log/request-json.ts'
import { PolicyEngine } from '../policy/policy-engine.ts'
import type { PolicySet } from '../policy/policy-set.ts'
import { askedPointers, touches } from './asked-facts.ts'
import { FlipList, type Flip } from './flip-list.ts'

/** What another policy set would have answered to requests that were recorded. */
export interface FlipReport {
  /** Revisions. */
  readonly before: string
  readonly after: string
  /** Requests that were decided by both. */
  readonly compared: number
  /** Of these, requests whose answer changes. */
  readonly flipped: number
  /** Of those, requests for which the list had no more room. */
  readonly untold: number
  /** Requests that cannot be decided again: something a rule asks about was masked. */
  readonly masked: number
  /** Lines that are no decision. */
  readonly unreadable: number
  /** Requests that the old set answers otherwise than the log says: it is not what decided then. */
  readonly differsFromLog: number
  readonly flips: readonly Flip[]
}

export interface CompareOptions {
  /** How many flips are kept apart; 1,000,000. */
  readonly mostFlips?: number
}

/**
 * Decides recorded requests again, by both sets, at the time at which they came.
 * @param before @param after with their selectors resolved
 */
export class RecordedComparison {
  readonly #before: PolicyEngine
  readonly #after: PolicyEngine
  readonly #asked: readonly string[]
  readonly #flips: FlipList
  readonly #counts = { compared: 0, masked: 0, unreadable: 0, differsFromLog: 0 }

  constructor (before: PolicySet, after: PolicySet, { mostFlips = 1_000_000 }: CompareOptions = {}) {
    this.#before = new PolicyEngine(before)
    this.#after = new PolicyEngine(after)
    this.#asked = askedPointers([before, after])
    this.#flips = new FlipList(mostFlips)
  }

  /** @param event `undefined`: a line that was none */
  add (event: DecisionEvent | undefined): void {
    const hidden = [event?.erased, event?.masked].flatMap(list => Array.isArray(list) ? list as string[] : [])
    if (hidden.length > 0 && touches(hidden, this.#asked)) {
      this.#counts.masked++
      return
    }
    const request = event === undefined ? undefined : parseRequestJson(event.input)
    if (event === undefined || request === undefined) {
      this.#counts.unreadable++
      return
    }
    const before = this.#before.decide(request)
    this.#counts.compared++
    // Whom rules ask besides may have refused what they allow.
    if (before.allowed !== event.result.allowed && event.result.reason !== 'custom') this.#counts.differsFromLog++
    this.#flips.add(request, before, this.#after.decide(request), () => event.decision_id)
  }

  report (): FlipReport {
    const { flipped, untold } = this.#flips
    return {
      before: this.#before.set.revision, after: this.#after.set.revision, ...this.#counts, flipped, untold, flips: this.#flips.list()
    }
  }
}

/** All of a log. @throws what reading it throws */
export async function compareRecorded (
  events: AsyncIterable<{ readonly event: DecisionEvent | undefined }>, before: PolicySet, after: PolicySet, options?: CompareOptions
): Promise<FlipReport> {
  const comparison = new RecordedComparison(before, after, options)
  for await (const { event } of events) comparison.add(event)
  return comparison.report()
}
