export interface AddressAllowanceOptions {
  /** On average. */
  readonly perSecond: number
  /** At once, after a pause. */
  readonly burst: number
  /** Addresses that are remembered, 16 384 by default. Whoever uses more pushes others' memory out, and could as well use them in turn. */
  readonly most?: number
}

interface Bucket { left: number, atMs: number }

const usualMost = 16_384

/** How often each address may ask. */
export class AddressAllowance {
  readonly #options: AddressAllowanceOptions
  readonly #buckets = new Map<string, Bucket>()

  constructor (options: AddressAllowanceOptions) { this.#options = options }

  /** @param key of whom it counts for, such as `peerNetwork`. @returns 0 when it may, else after how many seconds it may again */
  take (key: string, nowMs: number): number {
    const { perSecond, burst, most = usualMost } = this.#options
    const known = this.#buckets.get(key)
    const left = known === undefined ? burst : Math.min(burst, known.left + (nowMs - known.atMs) / 1_000 * perSecond)
    const allowed = left >= 1
    // The oldest of all is the one that asked least recently.
    this.#buckets.delete(key)
    this.#buckets.set(key, { left: allowed ? left - 1 : left, atMs: nowMs })
    if (this.#buckets.size > most) this.#buckets.delete(this.#buckets.keys().next().value as string)
    return allowed ? 0 : Math.max(1, Math.ceil((1 - left) / perSecond))
  }
}
