import type { Entry } from '../spiffe/entry.ts'
import { isSameRevision } from './workload-svid.ts'

const retryBaseMs = 500
export const longestSigningPauseMs = 60_000

/** Entries whose signing failed, so that one bad entry does not make the others wait. */
export class SigningFailures {
  readonly #byEntry = new Map<string, { readonly entry: Entry, readonly times: number, readonly againAtMs: number }>()
  readonly #random: () => number

  /** @param random 0 to 1: spreads the attempts */
  constructor (random: () => number) { this.#random = random }

  get entryIds (): readonly string[] { return [...this.#byEntry.keys()] }

  has (entryId: string): boolean { return this.#byEntry.has(entryId) }

  /** Whether this revision failed and its pause is not over. @param now Unix milliseconds */
  waits (entry: Entry, now: number): boolean {
    const failed = this.#byEntry.get(entry.id)
    return failed !== undefined && isSameRevision(failed.entry, entry) && failed.againAtMs > now
  }

  /**
   * @param now Unix milliseconds
   * @param hintMs what the server asked for: it knows when it has time
   * @returns the pause before the next attempt, milliseconds
   */
  add (entry: Entry, now: number, hintMs?: number): number {
    const times = (this.#byEntry.get(entry.id)?.times ?? 0) + 1
    const waitMs = hintMs ?? Math.round(Math.min(longestSigningPauseMs, retryBaseMs * 2 ** (times - 1)) * (0.5 + this.#random() / 2))
    this.#byEntry.set(entry.id, { entry, times, againAtMs: now + waitMs })
    return waitMs
  }

  delete (entryId: string): void { this.#byEntry.delete(entryId) }

  retain (isWanted: (entryId: string) => boolean): void {
    for (const id of this.#byEntry.keys()) if (!isWanted(id)) this.#byEntry.delete(id)
  }

  /** When the first pause is over, as Unix milliseconds; infinite without any. */
  nextMs (): number {
    let next = Number.POSITIVE_INFINITY
    for (const { againAtMs } of this.#byEntry.values()) next = Math.min(next, againAtMs)
    return next
  }
}
