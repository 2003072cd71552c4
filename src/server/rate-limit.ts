import type { Clock } from '../runtime/clock.ts'
import { SpiffeError } from '../spiffe/errors.ts'

interface Bucket { tokens: number, filledAtMs: number }

/** Idle buckets are full again by then, so forgetting them changes nothing. */
const idleMs = 60_000
const maxBuckets = 10_000

/**
 * A token bucket per client address, as many tokens per second as fit the bucket (spire-surface §1.2). Callers wait for
 * their tokens; the wait counts, so they are served in order.
 */
export class RateLimiter {
  readonly #perSecond: number
  readonly #clock: Clock
  readonly #buckets = new Map<string, Bucket>()

  constructor (perSecond: number, clock: Clock) {
    this.#perSecond = perSecond
    this.#clock = clock
  }

  /**
   * Takes `count` tokens, waiting until they are there.
   * @throws {SpiffeError} `rate_limited` when the count can never fit, or when the wait would outlast 30 s
   */
  async take (address: string, count: number, signal: AbortSignal): Promise<void> {
    if (count > this.#perSecond) throw new SpiffeError('rate_limited', `rate (${count}) exceeds burst size (${this.#perSecond})`)
    const bucket = this.#bucketOf(address)
    const missing = count - bucket.tokens
    if (missing > this.#perSecond * 30) {
      throw new SpiffeError('rate_limited', 'too many calls are waiting from this address', { retryAfterMs: 30_000 })
    }
    bucket.tokens -= count
    if (missing <= 0) return
    try {
      await this.#clock.sleep(missing / this.#perSecond * 1000, signal)
    } catch (error) {
      bucket.tokens += count
      throw error
    }
  }

  #bucketOf (address: string): Bucket {
    const now = this.#clock.monotonicMs()
    if (this.#buckets.size >= maxBuckets) this.#forgetIdle(now)
    const bucket = this.#buckets.get(address) ?? { tokens: this.#perSecond, filledAtMs: now }
    bucket.tokens = Math.min(this.#perSecond, bucket.tokens + (now - bucket.filledAtMs) / 1000 * this.#perSecond)
    bucket.filledAtMs = now
    this.#buckets.set(address, bucket)
    return bucket
  }

  #forgetIdle (now: number): void {
    for (const [address, bucket] of this.#buckets) if (now - bucket.filledAtMs > idleMs) this.#buckets.delete(address)
  }
}
