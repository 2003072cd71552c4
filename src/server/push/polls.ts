import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { Cursor } from '../../storage/change-log.ts'
import type { ProgressReporter } from './progress-reporter.ts'

/**
 * What is known of agents that poll, as SPIRE's do: what one was answered is `written`; that it calls again proves that the answer before
 * arrived.
 */
export class Polls {
  readonly #reporter: Pick<ProgressReporter, 'report'>
  readonly #cursor: () => Cursor
  /** By agent, least recently answered first. */
  readonly #answered = new Map<SpiffeId, Cursor>()

  constructor (reporter: Pick<ProgressReporter, 'report'>, cursor: () => Cursor) {
    this.#reporter = reporter
    this.#cursor = cursor
  }

  /** An agent asked for its entries and is answered with those of now. */
  answered (agent: SpiffeId): void {
    const cursor = this.#cursor()
    const before = this.#answered.get(agent)
    this.#answered.delete(agent)
    this.#answered.set(agent, cursor)
    this.#reporter.report(agent, before === undefined
      ? { state: 'written', cursor, unservedEntryIds: [] }
      : { state: 'inferred', cursor: before, unservedEntryIds: [] })
    if (this.#answered.size > mostRemembered) this.#answered.delete(this.#answered.keys().next().value as SpiffeId)
  }
}

const mostRemembered = 100_000
