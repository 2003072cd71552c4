/** Clients that come one after the other, all the time, and what they met. */
export class Knocking {
  readonly failures: string[] = []
  /** Serial numbers as they were shown, oldest first, each once. */
  readonly serials: string[] = []
  served = 0
  readonly #stop = new AbortController()
  readonly #clients: Promise<void>[]

  /** @param knock one whole connection; gives the serial number that it was shown */
  constructor (clients: number, knock: () => Promise<string>) {
    this.#clients = Array.from({ length: clients }, async () => {
      while (!this.#stop.signal.aborted) {
        try {
          const serial = await knock()
          this.served++
          if (!this.serials.includes(serial)) this.serials.push(serial)
        } catch (error) {
          this.failures.push((error as Error).message)
          if (this.failures.length > 20) return
        }
      }
    })
  }

  async end (): Promise<void> {
    this.#stop.abort()
    await Promise.all(this.#clients)
  }
}
