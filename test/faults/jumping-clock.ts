import { systemClock, type Clock } from '../../src/runtime/clock.ts'

/** The real clock, whose time of day is set forward and back by hand. Sleeps last as long as ever, as on a machine that is corrected. */
export class JumpingClock implements Clock {
  #offsetMs = 0

  now (): Date { return new Date(systemClock.now().getTime() + this.#offsetMs) }
  monotonicMs (): number { return systemClock.monotonicMs() }
  sleep (ms: number, signal?: AbortSignal): Promise<void> { return systemClock.sleep(ms, signal) }
  jump (ms: number): void { this.#offsetMs += ms }
}
