/** How often something may still be done: a burst, refilled one by one. */
export class RateAllowance {
  readonly #burst: number
  readonly #refillEveryMs: number
  #left: number
  #refilledAtMs: number

  constructor (burst: number, refillEveryMs: number, nowMs: number) {
    this.#burst = this.#left = burst
    this.#refillEveryMs = refillEveryMs
    this.#refilledAtMs = nowMs
  }

  left (nowMs: number): number {
    const refills = Math.floor((nowMs - this.#refilledAtMs) / this.#refillEveryMs)
    this.#left = Math.min(this.#burst, this.#left + refills)
    this.#refilledAtMs += refills * this.#refillEveryMs
    return this.#left
  }

  /** There must be one left. */
  take (nowMs: number): void {
    // Time that went by while it was full counts for nothing.
    if (this.left(nowMs) === this.#burst) this.#refilledAtMs = nowMs
    this.#left--
  }
}
