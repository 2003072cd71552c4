/** "Something was committed": a hint to look at the log, never the truth. */
export interface Nudges {
  /** Tells this process, and where there are others, them. Coalesced. */
  send (): void
  on (listener: () => void): () => void
  run (signal: AbortSignal): Promise<void>
  /** Whether nudges from others are known to arrive. */
  readonly proved: boolean
}

/** Listeners within this process. */
export class LocalNudges implements Nudges {
  readonly #listeners = new Set<() => void>()

  /** There are no others. */
  get proved (): boolean { return true }

  send (): void { for (const listener of this.#listeners) listener() }

  on (listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => { this.#listeners.delete(listener) }
  }

  async run (): Promise<void> {}
}
