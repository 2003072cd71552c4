import type { Logger } from '../runtime/logger.ts'
import type { Clock } from '../runtime/clock.ts'
import type { KeyManager, ManagedKey } from '../keys/key-manager.ts'
import type { Bundle } from '../spiffe/bundle.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { KeyType } from '../x509/key-type.ts'
import type { AuthorityJournal, AuthorityKind, AuthorityRecord, Slot } from './authority-record.ts'
import type { OwnBundle } from './own-bundle.ts'
import { activateAt, prepareAt } from './rotation-schedule.ts'

/** How one kind of authority is made, used and published. `Held` is what signing needs at hand. */
export interface AuthorityProfile<Held> {
  readonly kind: AuthorityKind
  readonly keyType: KeyType
  readonly lifetimeSeconds: number
  keyId (slot: Slot): string
  create (key: ManagedKey, slot: Slot, now: Date): Promise<AuthorityRecord>
  hold (record: AuthorityRecord, key: ManagedKey): Held
  publish (bundle: Bundle, record: AuthorityRecord): Bundle
}

export interface AuthorityDeps {
  readonly keys: KeyManager
  readonly journal: AuthorityJournal
  readonly bundle: OwnBundle
  readonly clock: Clock
  readonly log: Logger
}

interface Usable<Held> { readonly record: AuthorityRecord, readonly held: Held }

/**
 * The life of one kind of authority: prepared → active → old, in two key slots, kept through restarts.
 * An authority is in the published bundle before it is recorded as prepared, so nothing is ever signed before what verifies it is out.
 */
export class AuthoritySlots<Held> {
  readonly #profile: AuthorityProfile<Held>
  readonly #deps: AuthorityDeps
  #active: Usable<Held> | undefined
  #prepared: Usable<Held> | undefined

  private constructor (profile: AuthorityProfile<Held>, deps: AuthorityDeps) {
    this.#profile = profile
    this.#deps = deps
  }

  /** Takes over what the journal and the key manager still hold, and makes a first authority where nothing usable is left. */
  static async open<Held> (profile: AuthorityProfile<Held>, deps: AuthorityDeps): Promise<AuthoritySlots<Held>> {
    const slots = new AuthoritySlots(profile, deps)
    for (const record of await deps.journal.list(profile.kind)) {
      if (record.state === 'active') slots.#active = slots.#usable(record)
      if (record.state === 'prepared') slots.#prepared = slots.#usable(record)
    }
    await slots.#publishAgain()
    await slots.rotateIfDue()
    return slots
  }

  /** What signs now. @throws {SpiffeError} `server_initializing` when the active authority has expired and none could be made */
  get active (): Held {
    if (this.#active === undefined || this.#active.record.notAfter <= this.#deps.clock.now()) {
      throw new SpiffeError('server_initializing', `there is no valid ${this.#profile.kind} authority`)
    }
    return this.#active.held
  }

  get activeRecord (): AuthorityRecord | undefined { return this.#active?.record }
  get preparedRecord (): AuthorityRecord | undefined { return this.#prepared?.record }

  /** One look at the clock: prepares and activates what is due. Safe to repeat after any failure. */
  async rotateIfDue (): Promise<void> {
    const now = this.#deps.clock.now()
    if (this.#active !== undefined && this.#active.record.notAfter <= now) this.#active = undefined
    if (this.#prepared !== undefined && this.#prepared.record.notAfter <= now) this.#prepared = undefined
    if (this.#prepared === undefined && (this.#active === undefined || prepareAt(this.#active.record) <= now)) await this.#prepare(now)
    if (this.#active === undefined || activateAt(this.#active.record) <= now) await this.#activate()
  }

  async #prepare (now: Date): Promise<void> {
    const { keys, journal, bundle, log } = this.#deps
    const slot: Slot = this.#active?.record.slot === 'A' ? 'B' : 'A'
    const key = await keys.generateKey(this.#profile.keyId(slot), this.#profile.keyType)
    const record = await this.#profile.create(key, slot, now)
    await bundle.update(current => this.#profile.publish(current, record))
    await journal.save([record])
    this.#prepared = { record, held: this.#profile.hold(record, key) }
    log.info({ authority: describe(record) }, `${this.#profile.kind} authority prepared`)
  }

  async #activate (): Promise<void> {
    const next = this.#prepared
    if (next === undefined) return
    const active = { ...next.record, state: 'active' as const }
    const retired = this.#active === undefined ? [] : [{ ...this.#active.record, state: 'old' as const }]
    await this.#deps.journal.save([...retired, active])
    this.#active = { record: active, held: next.held }
    this.#prepared = undefined
    this.#deps.log.info({ authority: describe(active) }, `${this.#profile.kind} authority activated`)
  }

  /** A bundle restored or edited from outside may lack a key that still signs. */
  async #publishAgain (): Promise<void> {
    for (const usable of [this.#active, this.#prepared]) {
      if (usable !== undefined) await this.#deps.bundle.update(bundle => this.#profile.publish(bundle, usable.record))
    }
  }

  #usable (record: AuthorityRecord): Usable<Held> | undefined {
    const key = this.#deps.keys.getKey(this.#profile.keyId(record.slot))
    if (key === undefined || !Buffer.from(key.publicKey).equals(record.publicKey)) {
      this.#deps.log.warn({ authority: describe(record) }, `the key of this ${record.kind} authority is gone; another one takes over`)
      return undefined
    }
    return { record, held: this.#profile.hold(record, key) }
  }
}

function describe (record: AuthorityRecord): Record<string, string> {
  return { id: record.authorityId, slot: record.slot, state: record.state, expires: record.notAfter.toISOString() }
}
