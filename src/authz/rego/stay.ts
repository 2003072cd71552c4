/** What a thread has counted: evaluations that it began, and those that it ended. */
export interface Progress { readonly begun: number, readonly ended: number }

/** How long a thread has been in one and the same evaluation, by looks at it from outside. */
export class Stay {
  readonly #longestStepMs: number
  #begun: number | undefined
  #spentMs = 0
  #lookedAtMs = 0

  /** @param longestStepMs most that counts between two looks: while the whole machine stood still the thread did not run either */
  constructor (longestStepMs: number) { this.#longestStepMs = longestStepMs }

  /** @param nowMs of a monotonic clock @returns milliseconds */
  look ({ begun, ended }: Progress, nowMs: number): number {
    // Between evaluations it hangs in none, even where its answers wait for who looks.
    const isAnother = begun !== this.#begun || ended === begun
    this.#spentMs = isAnother ? 0 : this.#spentMs + Math.min(nowMs - this.#lookedAtMs, this.#longestStepMs)
    this.#begun = begun
    this.#lookedAtMs = nowMs
    return this.#spentMs
  }
}
