import { writeJournal, type Journal } from './journal.ts'

/** A journal during one step: what it says next is on the disk before it is done. */
export class KeptJournal {
  readonly #file: string
  #current: Journal

  /** @param current of a takeover that begins, not on the disk yet */
  constructor (file: string, current: Journal) {
    this.#file = file
    this.#current = current
  }

  get current (): Journal { return this.#current }

  /** @throws {SpiffeError} `file_unusable` */
  async save (change: Partial<Journal>): Promise<void> {
    this.#current = { ...this.#current, ...change }
    await writeJournal(this.#file, this.#current)
  }
}

export function added (names: readonly string[], more: readonly string[]): string[] { return [...new Set([...names, ...more])] }
