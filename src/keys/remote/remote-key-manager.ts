import { randomBytes } from 'node:crypto'
import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { codeOf, SpiffeError } from '../../spiffe/errors.ts'
import type { KeyType } from '../../x509/key-type.ts'
import type { ManagedKey, SharedKeyManager, SharedKeyRows } from '../key-manager.ts'
import { formatKeyReference, parseKeyReference, type KeyReference } from '../key-reference.ts'
import { checkKeyId } from '../local-key-manager.ts'
import type { KeyService } from './key-service.ts'
import { RemoteCalls } from './remote-calls.ts'
import { remoteSigner } from './remote-signer.ts'

export interface RemoteKeyManagerOptions {
  /** First part of the names of keys made here: 1 to 100 of `A-Z a-z 0-9 . _ -`. */
  readonly identifier: string
  readonly clock: Clock
  readonly log: Logger
}

interface RemoteKey { readonly managed: ManagedKey, readonly reference: KeyReference }

/** Keys that could not be removed are tried again with the next key of their ID, so many at most. */
const mostRetired = 8

/**
 * Keys that are kept elsewhere and never come here. The database says which key an ID means (`KeyReference`), so that replicas share them,
 * a change is fenced by the lease like any other, and a start needs nothing from elsewhere. Each key made is a new one there: the one it
 * replaces goes on signing for who holds it, and is removed when the ID gets its next key.
 */
export class RemoteKeyManager implements SharedKeyManager {
  readonly #service: KeyService
  readonly #rows: SharedKeyRows
  readonly #options: RemoteKeyManagerOptions
  readonly #calls: RemoteCalls
  readonly #keys: Map<string, RemoteKey>
  /** Locations of keys that somebody removed there. */
  readonly #gone: Set<string>

  private constructor (service: KeyService, rows: SharedKeyRows, options: RemoteKeyManagerOptions, calls: RemoteCalls,
    keys: Map<string, RemoteKey>, gone: Set<string>) {
    this.#service = service
    this.#rows = rows
    this.#options = options
    this.#calls = calls
    this.#keys = keys
    this.#gone = gone
  }

  /**
   * Looks once whether the keys are still there. A service that does not answer stops nothing here: signing will say so.
   * @throws {SpiffeError} `key_service_refused`, `key_service_malformed`: nothing would ever be signed
   */
  static async open (service: KeyService, rows: SharedKeyRows, options: RemoteKeyManagerOptions): Promise<RemoteKeyManager> {
    const calls = new RemoteCalls(service.name, options)
    const manager = new RemoteKeyManager(service, rows, options, calls, new Map(), new Set())
    await manager.reload()
    await Promise.all([...manager.#keys.values()].map(({ reference }) => manager.#look(reference)))
    return manager
  }

  on (rows: SharedKeyRows): RemoteKeyManager {
    return new RemoteKeyManager(this.#service, rows, this.#options, this.#calls, this.#keys, this.#gone)
  }

  get ids (): readonly string[] { return [...this.#keys.keys()] }

  getKey (id: string): ManagedKey | undefined {
    const key = this.#keys.get(id)
    return key === undefined || this.#gone.has(key.reference.location) ? undefined : key.managed
  }

  async reload (): Promise<void> {
    const rows = await this.#rows.list()
    for (const id of this.#keys.keys()) if (!rows.has(id)) this.#keys.delete(id)
    for (const [id, row] of rows) {
      const reference = parseKeyReference(row)
      const known = this.#keys.get(id)
      if (reference?.manager !== this.#service.name) this.#keys.delete(id)
      // A key that did not change stays the object it was: whoever holds it goes on.
      else if (known?.reference.location === reference.location) this.#keys.set(id, { ...known, reference })
      else this.#keys.set(id, this.#hold(id, reference))
    }
  }

  async generateKey (id: string, type: KeyType): Promise<ManagedKey> {
    checkKeyId(id)
    return await this.#calls.oneChange(async () => {
      const before = this.#keys.get(id)?.reference
      const name = `${this.#options.identifier}-${id.slice(0, 64)}-${randomBytes(6).toString('hex')}`
      const { location, publicKey } = await this.#calls.once('create', signal => this.#service.create(name, type, signal))
      try {
        const key = this.#hold(id, { manager: this.#service.name, location, type, publicKey, retired: [] })
        // Whatever keeps it from signing shows before anybody relies on it.
        await key.managed.sign(Buffer.from('key self-test'), 'der')
        const retired = [...await this.#removeAll(before?.retired ?? []), ...before === undefined ? [] : [before.location]]
        const reference = { ...key.reference, retired: retired.slice(-mostRetired) }
        await this.#rows.put(id, formatKeyReference(reference))
        this.#keys.set(id, { managed: key.managed, reference })
        return key.managed
      } catch (error) {
        // Where it is unknown whether the row was written, the key may be the one that counts.
        if (codeOf(error) !== 'datastore_outcome_unknown') await this.#removeAll([location])
        throw error
      }
    })
  }

  async deleteKey (id: string): Promise<void> {
    await this.#calls.oneChange(async () => {
      const key = this.#keys.get(id)
      await this.#rows.delete(id)
      this.#keys.delete(id)
      if (key !== undefined) await this.#removeAll([...key.reference.retired, key.reference.location])
    })
  }

  /** Waits for changes under way; later ones and calls are refused. */
  async [Symbol.asyncDispose] (): Promise<void> {
    await this.#calls.close()
    await this.#service[Symbol.asyncDispose]()
  }

  #hold (id: string, reference: KeyReference): RemoteKey {
    const { location, type } = reference
    const signer = remoteSigner(reference, async digest => {
      try {
        return await this.#calls.again('sign', signal => this.#service.sign(location, type, digest, signal))
      } catch (error) {
        if (codeOf(error) === 'key_service_key_gone') this.#lose(location)
        throw error
      }
    })
    return { managed: { id, ...signer }, reference }
  }

  async #look ({ location, publicKey }: KeyReference): Promise<void> {
    try {
      const there = await this.#calls.again('look', signal => this.#service.publicKeyOf(location, signal))
      if (!Buffer.from(there).equals(publicKey)) this.#lose(location)
    } catch (error) {
      if (!(error instanceof SpiffeError)) throw error
      if (error.code === 'key_service_key_gone') this.#lose(location)
      else if (!error.row.retry) throw error
    }
  }

  #lose (location: string): void {
    if (this.#gone.has(location)) return
    this.#gone.add(location)
    this.#options.log.error({ manager: this.#service.name, key: location }, 'a key is gone or was exchanged where it was kept')
  }

  /** @returns those that are still there */
  async #removeAll (locations: readonly string[]): Promise<string[]> {
    const left = await Promise.all(locations.map(async location => {
      try {
        await this.#calls.once('remove', signal => this.#service.remove(location, signal))
        return []
      } catch (error) {
        if (!(error instanceof SpiffeError)) throw error
        this.#options.log.warn({ manager: this.#service.name, key: location, code: error.code, error: error.message },
          'a key that nothing uses any more could not be removed')
        return [location]
      }
    }))
    return left.flat()
  }
}
