import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { isStop } from '../../runtime/tasks.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { Stores } from '../../storage/datastore.ts'
import type { Lease, LeaseStore } from '../../storage/lease-store.ts'

export interface LeaseKeeperOptions {
  readonly leases: LeaseStore
  /** This process. */
  readonly holder: string
  /** While this says so, the lease is left to others. */
  readonly aside: { readonly remainingMs: number }
  readonly clock: Clock
  readonly log: Logger
}

/** The one lease there is: who does what the trust domain needs done once. */
export const leaseName = 'chores'
const ttlMs = 15_000
const renewEveryMs = 5_000

/**
 * Holds, or waits for, the right to do the trust domain's chores. Whoever lost it without noticing is stopped by the database: what it
 * writes goes through `fenced` stores, whose transactions fail once the lease is another's.
 */
export class LeaseKeeper {
  readonly #options: LeaseKeeperOptions
  #held: Lease | undefined
  #commands: Promise<unknown> = Promise.resolve()

  constructor (options: LeaseKeeperOptions) { this.#options = options }

  /** Stores to do chores with while this process holds the lease; `undefined` while another does. */
  get stores (): Stores | undefined {
    return this.#held === undefined ? undefined : this.#options.leases.fenced(leaseName, this.#held)
  }

  /** Takes the lease when it is free. @returns who holds it now */
  async acquire (): Promise<Lease> {
    const { leases, holder, log } = this.#options
    const lease = await leases.acquire(leaseName, holder, ttlMs)
    const mine = lease.holder === holder
    if (mine && this.#held === undefined) log.info({ token: lease.token }, 'this replica does the trust domain\'s chores now')
    if (!mine && this.#held !== undefined) log.warn({ holder: lease.holder }, 'another replica has taken the chores over')
    this.#held = mine ? lease : undefined
    return lease
  }

  /**
   * An operator's command does not wait for the holder: it takes the lease away and keeps it. What the holder was writing fails, as with
   * any superseded holder.
   */
  async command<T> (work: (stores: Stores) => Promise<T>): Promise<T> {
    const run = this.#commands.then(async () => {
      const { leases, holder } = this.#options
      const lease = await leases.acquire(leaseName, holder, ttlMs, { seize: true })
      this.#held = lease
      try {
        return await work(leases.fenced(leaseName, lease))
      } catch (error) {
        throw error instanceof SpiffeError && error.code === 'lease_lost'
          ? new SpiffeError('lease_lost', 'another replica ran a command at the same time', { cause: error })
          : error
      }
    })
    this.#commands = run.catch(() => {})
    return await run
  }

  /** Gives the lease up at once, for another to take. */
  async leave (): Promise<void> {
    const { leases, holder } = this.#options
    this.#held = undefined
    await leases.release(leaseName, holder)
  }

  /** Keeps the lease, or waits for it, until the signal aborts; then gives it up. */
  async run (signal: AbortSignal): Promise<void> {
    const { clock, leases, holder, aside, log } = this.#options
    try {
      for (;;) {
        await clock.sleep(renewEveryMs, signal)
        if (aside.remainingMs > 0) continue
        try {
          await this.acquire()
        } catch (error) {
          if (isStop(error, signal)) throw error
          // Without the database it cannot be known who holds it; nothing could be written either.
          this.#held = undefined
          log.debug({ err: error }, 'the lease could not be renewed')
        }
      }
    } finally {
      await leases.release(leaseName, holder).catch(() => {})
    }
  }
}
