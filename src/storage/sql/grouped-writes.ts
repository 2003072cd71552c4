import { setImmediate as nextTurn } from 'node:timers/promises'
import { codeOf } from '../../spiffe/errors.ts'

/** Some ten milliseconds of SQLite, which the event loop waits for. */
const mostAtOnce = 250

export type Outcome<Result> = { readonly result: Result } | { readonly refusal: unknown }

interface Wanted<Item, Result> {
  readonly item: Item
  readonly resolve: (result: Result) => void
  readonly reject: (error: unknown) => void
}

/**
 * What is asked for at the same time shares a transaction, and with it one write to the disk and one number of the log: when a fleet comes
 * back each of its agents has something to write.
 */
export class GroupedWrites<Item, Result> {
  readonly #write: (items: readonly Item[]) => Promise<ReadonlyArray<Outcome<Result>>>
  #waiting: Array<Wanted<Item, Result>> = []
  #writing = false

  /** @param write makes one transaction of them, in which an item that it refuses has changed nothing; outcomes are in the items' order */
  constructor (write: (items: readonly Item[]) => Promise<ReadonlyArray<Outcome<Result>>>) { this.#write = write }

  /** Begun in the order asked. Rejects with what refuses this one, or with why the transaction failed. */
  ask (item: Item): Promise<Result> {
    const { promise, resolve, reject } = Promise.withResolvers<Result>()
    this.#waiting.push({ item, resolve, reject })
    if (!this.#writing) void this.#writeAll()
    return promise
  }

  async #writeAll (): Promise<void> {
    this.#writing = true
    while (this.#waiting.length > 0) {
      // Calls that have come meanwhile share the write.
      await nextTurn()
      await this.#writeGroup(this.#waiting.splice(0, mostAtOnce))
    }
    this.#writing = false
  }

  async #writeGroup (group: ReadonlyArray<Wanted<Item, Result>>): Promise<void> {
    try {
      const outcomes = await this.#write(group.map(({ item }) => item))
      group.forEach(({ resolve, reject }, index) => {
        const outcome = outcomes[index] as Outcome<Result>
        if ('result' in outcome) resolve(outcome.result)
        else reject(outcome.refusal)
      })
    } catch (error) {
      // A row that the database does not take is one item's alone: the others must not go with it.
      if (group.length > 1 && codeOf(error) === undefined) for (const one of group) await this.#writeGroup([one])
      else for (const { reject } of group) reject(error)
    }
  }
}
