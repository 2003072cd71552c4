/** Numbers from a seed, the same each time: what fails can be run again. */
export class Random {
  #state: number

  constructor (seed: number) { this.#state = seed >>> 0 }

  /** From 0 to below 1 (mulberry32). */
  next (): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }

  /** A whole number from 0 to below `limit`. */
  below (limit: number): number { return Math.floor(this.next() * limit) }
  chance (probability: number): boolean { return this.next() < probability }
  pick<T> (items: readonly T[]): T { return items[this.below(items.length)] as T }
}

/**
 * The one given in the environment variable `ASSAY_SEED`, or always the same: a red run is the change's own, not the dice's. New seeds
 * are what `npm run test:explore` is for. Print it.
 */
export function chooseSeed (): number {
  const given = Number(process.env['ASSAY_SEED'])
  return Number.isInteger(given) && given > 0 ? given : 20_260_101
}
