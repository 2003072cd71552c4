import type { Stores } from './datastore.ts'

/** The right to do what only one replica may do at a time. */
export interface Lease {
  /** Grows each time the lease changes hands. */
  readonly token: number
  readonly holder: string
  readonly expiresAt: Date
}

export interface LeaseStore {
  /**
   * Takes the lease when it is free or has run out, renews it when it is the caller's. Time is the database's, where it has one.
   * @param holder a process; the same one twice is one holder
   * @param options.seize takes it whoever has it; always with a new token
   * @returns the lease as it is now: the caller's if `holder` says so
   */
  acquire (name: string, holder: string, ttlMs: number, options?: { readonly seize?: boolean }): Promise<Lease>
  /** Gives it up at once; nothing happens when it is another's. */
  release (name: string, holder: string): Promise<void>
  get (name: string): Promise<Lease | undefined>
  /**
   * The same stores, whose every transaction fails with `lease_lost` once the lease has gone to another holder: a paused process cannot
   * write what its successor has decided otherwise.
   */
  fenced (name: string, lease: Pick<Lease, 'holder' | 'token'>): Stores
}
