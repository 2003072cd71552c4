import { randomBytes } from 'node:crypto'
import { type ConnectionAccess, narrows } from '../../authz/rbac/connection-access.ts'

/** What is kept of one workload. */
export interface StoredEpoch {
  readonly name: string
  /** Digest of who might have a connection when it was last told. */
  readonly access: string
}

/** Outlives this process, as the proxy and its connections do. */
export interface EpochStore {
  /** Workload's uid → epoch; empty when nothing usable is kept: connections that policies are about then end once more than they must. */
  read (): ReadonlyMap<string, StoredEpoch>
  /** Kept when it returns. */
  write (epochs: ReadonlyMap<string, StoredEpoch>): void
}

/**
 * Envoy looks at the rules of a connection when it begins, and never again. Those that a change leaves alone must live on, and those of
 * whoever may no longer have one must not: the chain that they are in is named for an epoch, which ends when somebody loses what he had.
 * Envoy ends the connections of a chain that goes.
 */
export class ConnectionEpochs {
  readonly #store: EpochStore
  #epochs: Map<string, StoredEpoch> | undefined
  readonly #access = new Map<string, ConnectionAccess>()
  #changed = false

  constructor (store: EpochStore) { this.#store = store }

  /** @returns the name of the epoch of a workload's connections, which it has until somebody among them loses his right */
  of (uid: string, access: ConnectionAccess): string {
    this.#epochs ??= new Map(this.#store.read())
    const known = this.#epochs.get(uid)
    const before = this.#access.get(uid)
    this.#access.set(uid, access)
    if (known?.access === access.digest) return known.name
    const goesOn = known !== undefined && before?.digest === known.access && !narrows(before, access)
    const epoch = { name: goesOn ? known.name : randomBytes(6).toString('hex'), access: access.digest }
    this.#epochs.set(uid, epoch)
    this.#changed = true
    return epoch.name
  }

  /** Before the proxy is told: others are forgotten, and what is left is kept. */
  keep (uids: ReadonlySet<string>): void {
    for (const uid of this.#epochs?.keys() ?? []) {
      if (uids.has(uid)) continue
      this.#epochs?.delete(uid)
      this.#access.delete(uid)
      this.#changed = true
    }
    if (!this.#changed || this.#epochs === undefined) return
    this.#store.write(this.#epochs)
    this.#changed = false
  }
}
