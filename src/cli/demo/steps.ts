import type { Clock } from '../../runtime/clock.ts'

/** Says what is being done and since when; a failure carries the name of its step. */
export class Steps {
  readonly #clock: Clock
  readonly #out: (text: string) => void
  readonly #startMs: number

  constructor (clock: Clock, out: (text: string) => void) {
    this.#clock = clock
    this.#out = out
    this.#startMs = clock.monotonicMs()
  }

  get elapsedSeconds (): number { return (this.#clock.monotonicMs() - this.#startMs) / 1_000 }

  say (text: string): void { this.#out(`[${this.elapsedSeconds.toFixed(1).padStart(5)} s] ${text}\n`) }

  async run<T> (title: string, work: () => Promise<T>): Promise<T> {
    this.say(title)
    try {
      return await work()
    } catch (error) {
      throw error instanceof StepFailed ? error : new StepFailed(title, error)
    }
  }
}

export class StepFailed extends Error {
  readonly step: string
  constructor (step: string, cause: unknown) {
    super(cause instanceof Error ? cause.message : String(cause), { cause })
    this.name = 'StepFailed'
    this.step = step
  }
}
