import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { untilAborted } from '../../runtime/until-aborted.ts'

/**
 * Whether this replica leaves agents and chores to the others for a while, because an operator asked it to. It comes back by itself: an
 * operator who goes away in the middle of a drill leaves nothing behind.
 */
export class StandAside {
  readonly #clock: Clock
  readonly #log: Logger
  #untilMs = Number.NEGATIVE_INFINITY
  #wake: () => void = () => {}

  constructor ({ clock, log }: { readonly clock: Clock, readonly log: Logger }) {
    this.#clock = clock
    this.#log = log
  }

  /** Milliseconds; 0 when this replica does its work. */
  get remainingMs (): number { return Math.max(0, Math.ceil(this.#untilMs - this.#clock.monotonicMs())) }

  /** @throws {SpiffeError} `replica_aside` while it is another replica's turn */
  requireDuty (): void {
    const { remainingMs } = this
    if (remainingMs > 0) throw new SpiffeError('replica_aside', `this replica stands aside for another ${Math.ceil(remainingMs / 1000)} s`)
  }

  begin (durationMs: number): void {
    this.#untilMs = this.#clock.monotonicMs() + durationMs
    this.#log.warn({ forMs: durationMs }, 'this replica stands aside: agents and chores are left to the others')
    this.#wake()
  }

  end (): void {
    this.#untilMs = Number.NEGATIVE_INFINITY
    this.#wake()
  }

  /** Says when it is over, until the signal aborts. */
  async run (signal: AbortSignal): Promise<void> {
    for (;;) {
      const wasAside = this.remainingMs > 0
      await this.#nap(signal)
      if (wasAside && this.remainingMs === 0) this.#log.info('this replica serves agents again')
    }
  }

  async #nap (signal: AbortSignal): Promise<void> {
    const changed = Promise.withResolvers<void>()
    const rest = new AbortController()
    const stop = AbortSignal.any([signal, rest.signal])
    this.#wake = () => changed.resolve()
    const { remainingMs } = this
    try {
      await Promise.race([
        changed.promise, remainingMs > 0 ? this.#clock.sleep(remainingMs, stop).catch(() => {}) : untilAborted(stop)
      ])
    } finally {
      rest.abort()
    }
    signal.throwIfAborted()
  }
}
