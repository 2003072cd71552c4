import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { isKeyReference } from '../key-reference.ts'
import { holdKey, type HeldKey } from '../local-key-manager.ts'
import { parsePrivateKey } from '../private-key.ts'
import type { KeyWrapping } from './key-wrapping.ts'

interface Arrival { readonly row: Uint8Array, late: boolean }
interface RowKey { readonly row: Uint8Array, readonly held: HeldKey }

/** What follows the database may be held up for so long by a key-encryption key that is elsewhere. */
const briefMs = 1_000
const retryEveryMs = 10_000

/** The keys of the database's rows, each unwrapped once: rows that did not change stay the keys they were. */
export class UnwrappedKeys implements AsyncDisposable {
  readonly wrapping: KeyWrapping
  readonly #clock: Clock
  readonly #log: Logger
  readonly #keys = new Map<string, RowKey>()
  readonly #arriving = new Map<string, Arrival>()
  readonly #listeners: (() => Promise<void>)[] = []
  readonly #closing = new AbortController()

  constructor (wrapping: KeyWrapping, { clock, log }: { readonly clock: Clock, readonly log: Logger }) {
    this.wrapping = wrapping
    this.#clock = clock
    this.#log = log
  }

  get ids (): readonly string[] { return [...this.#keys.keys()] }
  get closed (): boolean { return this.#closing.signal.aborted }

  get (id: string): HeldKey | undefined { return this.#keys.get(id)?.held }
  set (id: string, row: Uint8Array, held: HeldKey): void { this.#keys.set(id, { row, held }) }
  delete (id: string): void { this.#keys.delete(id) }

  /** `listener` runs after keys that came too late for `follow`. */
  onArrived (listener: () => Promise<void>): void { this.#listeners.push(listener) }

  /** All of them. @throws {SpiffeError} `key_encryption_key_invalid`, `key_store_corrupt`, `key_service_*` */
  async open (rows: ReadonlyMap<string, Uint8Array>): Promise<void> {
    await Promise.all(this.#changes(rows).map(async ([id, row]) => { this.set(id, row, await this.#unwrap(id, row)) }))
  }

  /**
   * Those that can be had now: what takes longer, or cannot be had for the moment, arrives later.
   * @throws {SpiffeError} `key_encryption_key_invalid`, `key_store_corrupt`
   */
  async follow (rows: ReadonlyMap<string, Uint8Array>): Promise<void> {
    const arrivals: Arrival[] = []
    const all = this.#changes(rows).map(async ([id, row]) => {
      const before = this.#arriving.get(id)
      if (before !== undefined && same(before.row, row)) return
      const arrival = { row, late: false }
      this.#arriving.set(id, arrival)
      arrivals.push(arrival)
      await this.#arrive(id, arrival)
    })
    const over = new AbortController()
    const done = Promise.all(all)
    try {
      await Promise.race([done, this.#clock.sleep(briefMs, AbortSignal.any([over.signal, this.#closing.signal])).catch(() => {})])
    } finally {
      for (const arrival of arrivals) arrival.late = true
      over.abort()
      done.catch(() => {})
    }
  }

  async [Symbol.asyncDispose] (): Promise<void> {
    this.#closing.abort(new Error('the key manager is closed'))
    await this.wrapping[Symbol.asyncDispose]()
  }

  /** Forgets what is gone. @returns rows that are new */
  #changes (rows: ReadonlyMap<string, Uint8Array>): (readonly [string, Uint8Array])[] {
    const ours = [...rows].filter(([, row]) => !isKeyReference(row))
    const names = new Set(ours.map(([id]) => id))
    for (const map of [this.#keys, this.#arriving]) for (const id of map.keys()) if (!names.has(id)) map.delete(id)
    return ours.filter(([id, row]) => !same(this.#keys.get(id)?.row, row))
  }

  async #arrive (id: string, arrival: Arrival): Promise<void> {
    for (let said = false; ; said = true) {
      try {
        const held = await this.#unwrap(id, arrival.row)
        if (this.#arriving.get(id) !== arrival) return
        this.#arriving.delete(id)
        this.set(id, arrival.row, held)
        if (arrival.late) await this.#tell()
        return
      } catch (error) {
        if (this.#arriving.get(id) !== arrival || this.closed) return
        const passes = error instanceof SpiffeError && error.row.retry
        if (!passes && !arrival.late) this.#arriving.delete(id)
        if (!passes && !arrival.late) throw error
        if (!said) this.#log.error({ err: error, key: id }, 'a key that another server made cannot be unwrapped; trying again')
      }
      await this.#clock.sleep(retryEveryMs, this.#closing.signal).catch(() => {})
    }
  }

  async #tell (): Promise<void> {
    try {
      for (const listener of this.#listeners) await listener()
    } catch (error) {
      this.#log.error({ err: error }, 'a key that arrived late could not be taken over; with the next change it is')
    }
  }

  async #unwrap (id: string, row: Uint8Array): Promise<HeldKey> {
    const key = parsePrivateKey(await this.wrapping.unwrap(row, id))
    if (key === undefined) throw new SpiffeError('key_store_corrupt', `the database holds no usable key under ${JSON.stringify(id)}`)
    return holdKey(id, key)
  }
}

function same (a: Uint8Array | undefined, b: Uint8Array): boolean { return a !== undefined && Buffer.compare(a, b) === 0 }
