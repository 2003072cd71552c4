import type { Logger } from '../runtime/logger.ts'
import type { Clock } from '../runtime/clock.ts'
import { timed } from '../runtime/took.ts'
import type { ManagedKey, KeyManager } from '../keys/key-manager.ts'
import type { Bundle } from '../spiffe/bundle.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { KeyType } from '../x509/key-type.ts'
import type { AuthorityJournal, AuthorityKind, AuthorityRecord, AuthorityState, AuthorityWriter, Slot } from './authority-record.ts'
import type { CaEvents } from './ca-events.ts'
import type { OwnBundle } from './own-bundle.ts'
import { activateAt, prepareAt } from './rotation-schedule.ts'

/** How one kind of authority is made, used and published. `Held` is what signing needs at hand. */
export interface AuthorityProfile<Held> {
  readonly kind: AuthorityKind
  readonly keyType: KeyType
  readonly lifetimeSeconds: number
  keyId (slot: Slot): string
  create (key: ManagedKey, slot: Slot, clock: Clock, writer: AuthorityWriter): Promise<AuthorityRecord>
  /** Whether the configuration would make one like it today; one that is not is replaced before its time. Always unless given. */
  isCurrent? (record: AuthorityRecord): boolean
  hold (record: AuthorityRecord, key: ManagedKey): Held
  publish (bundle: Bundle, record: AuthorityRecord): Bundle
  taint (bundle: Bundle, record: AuthorityRecord): Bundle
  withdraw (bundle: Bundle, record: AuthorityRecord): Bundle
  /** One of the bundle that was appended there, such as another server's of this trust domain; its slot means nothing. */
  appended (bundle: Bundle, authorityId: string): AuthorityRecord | undefined
}

export interface AuthorityDeps {
  /** Read here; written by `AuthorityWriter`s. */
  readonly keys: KeyManager
  readonly journal: AuthorityJournal
  readonly bundle: OwnBundle
  readonly events?: CaEvents | undefined
  readonly clock: Clock
  readonly log: Logger
}

export interface AuthorityRecords {
  readonly active: AuthorityRecord | undefined
  readonly prepared: AuthorityRecord | undefined
  /** The newest one that is out of use, tainted or not, until it is revoked. Older ones can be tainted and revoked as well. */
  readonly old: AuthorityRecord | undefined
}

interface Usable<Held> { readonly record: AuthorityRecord, readonly held: Held }

/**
 * The life of one kind of authority: prepared → active → old, in two key slots, kept through restarts. An authority is published and
 * recorded as prepared in one transaction, so nothing is ever signed before what verifies it is out.
 */
export class AuthoritySlots<Held> {
  readonly #profile: AuthorityProfile<Held>
  readonly #deps: AuthorityDeps
  #active: Usable<Held> | undefined
  #prepared: Usable<Held> | undefined
  /** Out of use and not revoked, the newest last. */
  #old: readonly AuthorityRecord[] = []

  private constructor (profile: AuthorityProfile<Held>, deps: AuthorityDeps) {
    this.#profile = profile
    this.#deps = deps
  }

  /** Takes over what the journal and the key manager still hold. */
  static async open<Held> (profile: AuthorityProfile<Held>, deps: AuthorityDeps): Promise<AuthoritySlots<Held>> {
    const slots = new AuthoritySlots(profile, deps)
    await slots.reload()
    return slots
  }

  /** What signs now. @throws {SpiffeError} `server_initializing` when the active authority has expired and none could be made */
  get active (): Held {
    if (this.#active === undefined || this.#active.record.notAfter <= this.#deps.clock.now()) {
      throw new SpiffeError('server_initializing', 'server is initializing', { details: { missing: this.#profile.kind } })
    }
    return this.#active.held
  }

  get records (): AuthorityRecords {
    return { active: this.#active?.record, prepared: this.#prepared?.record, old: this.#old.at(-1) }
  }

  /** Reads the journal again: another replica may have written it. */
  async reload (): Promise<void> {
    const records = await this.#deps.journal.list(this.#profile.kind)
    const newest = (...states: AuthorityState[]) => records.findLast(({ state }) => states.includes(state))
    this.#active = this.#usable(newest('active'), this.#active)
    this.#prepared = this.#usable(newest('prepared'), this.#prepared)
    this.#old = records.filter(({ state }) => state === 'old' || state === 'tainted')
  }

  /** One look at the clock: prepares and activates what is due, publishes again what a restored bundle lacks. Safe to repeat. */
  async rotateIfDue (writer: AuthorityWriter): Promise<void> {
    const now = this.#deps.clock.now()
    if (this.#active !== undefined && this.#active.record.notAfter <= now) this.#active = undefined
    if (this.#prepared !== undefined && this.#prepared.record.notAfter <= now) this.#prepared = undefined
    // A key that is kept elsewhere can be removed there.
    this.#active = this.#usable(this.#active?.record, this.#active)
    this.#prepared = this.#usable(this.#prepared?.record, this.#prepared)
    await this.#publishAgain(writer)
    const { active } = this.records
    if (this.#prepared === undefined && (active === undefined || this.#prepareAt(active) <= now)) await this.prepare(writer)
    if (active === undefined || this.#activateAt(active) <= now) await this.#activate(writer)
  }

  #prepareAt (active: AuthorityRecord): Date {
    return this.#profile.isCurrent?.(active) === false ? active.notBefore : prepareAt(active)
  }

  /** The successor of what the configuration would not make any more has been known for as long as any before it takes over. */
  #activateAt (active: AuthorityRecord): Date {
    const next = this.#prepared?.record
    if (next === undefined || this.#profile.isCurrent?.(active) !== false) return activateAt(active)
    const knownFor = activateAt(next).getTime() - prepareAt(next).getTime()
    return new Date(Math.min(activateAt(active).getTime(), next.notBefore.getTime() + knownFor))
  }

  /** Makes and publishes the next authority, in place of one that was prepared and not used. */
  async prepare (writer: AuthorityWriter): Promise<AuthorityRecord> {
    const { clock, events } = this.#deps
    return await timed(clock, events && (took => events.prepared(this.#profile.kind, took)), () => this.#prepare(writer))
  }

  async #prepare (writer: AuthorityWriter): Promise<AuthorityRecord> {
    const slot: Slot = this.#active?.record.slot === 'A' ? 'B' : 'A'
    const unused = this.#prepared?.record
    const { clock, events } = this.#deps
    const key = await timed(clock, events?.keyMade, () => writer.keys.generateKey(this.#profile.keyId(slot), this.#profile.keyType))
    const record = await this.#profile.create(key, slot, clock, writer)
    const dropped = unused === undefined ? [] : [{ ...unused, state: 'revoked' as const }]
    await this.#save([...dropped, record], writer, bundle =>
      this.#profile.publish(unused === undefined ? bundle : this.#profile.withdraw(bundle, unused), record))
    this.#prepared = { record, held: this.#profile.hold(record, key) }
    this.#report(record, 'prepared')
    return record
  }

  /** @throws {SpiffeError} `authority_unknown`, `authority_not_prepared` */
  async activate (authorityId: string, writer: AuthorityWriter): Promise<AuthorityRecord> {
    if (authorityId === '') throw new SpiffeError('authority_unknown', 'no authority ID provided')
    if (this.#old.some(old => old.authorityId === authorityId)) {
      throw new SpiffeError('authority_not_prepared', 'only Prepared authorities can be activated')
    }
    if (this.#prepared?.record.authorityId !== authorityId) throw new SpiffeError('authority_unknown', 'unexpected authority ID')
    await this.#activate(writer)
    return this.#active?.record as AuthorityRecord
  }

  /** @throws {SpiffeError} `authority_unknown`, `authority_in_use` */
  async taint (authorityId: string, writer: AuthorityWriter): Promise<AuthorityRecord> {
    const record = { ...this.#oldNamed(authorityId, 'taint'), state: 'tainted' as const }
    await this.#save(this.#ofOurs(record), writer, bundle => this.#profile.taint(bundle, record))
    this.#old = this.#old.map(old => old.authorityId === authorityId ? record : old)
    this.#report(record, 'tainted')
    return record
  }

  /** @throws {SpiffeError} `authority_unknown`, `authority_in_use`, `authority_not_tainted` */
  async revoke (authorityId: string, writer: AuthorityWriter): Promise<AuthorityRecord> {
    const old = this.#oldNamed(authorityId, 'revoke')
    if (old.state !== 'tainted') throw new SpiffeError('authority_not_tainted', 'the authority is not tainted')
    const record = { ...old, state: 'revoked' as const }
    await this.#save(this.#ofOurs(record), writer, bundle => this.#profile.withdraw(bundle, record))
    this.#old = this.#old.filter(old => old.authorityId !== authorityId)
    this.#report(record, 'revoked')
    return record
  }

  /** Prepares and activates at once where `isLeft` says that what signs must not go on. @throws {SpiffeError} what `create` throws */
  async replace (isLeft: (record: AuthorityRecord) => boolean, writer: AuthorityWriter): Promise<void> {
    const { active, prepared } = this.records
    const isActiveLeft = active !== undefined && isLeft(active)
    if (prepared === undefined ? isActiveLeft : isLeft(prepared)) await this.prepare(writer)
    if (!isActiveLeft) return
    const next = this.#prepared?.record
    if (next !== undefined && isLeft(next)) {
      throw new SpiffeError('upstream_invalid', 'the upstream authority signs with the root that it distrusts')
    }
    await this.#activate(writer)
  }

  #oldNamed (authorityId: string, verb: 'taint' | 'revoke'): AuthorityRecord {
    if (authorityId === '') throw new SpiffeError('authority_unknown', 'no authority ID provided')
    if (authorityId === this.#active?.record.authorityId) {
      throw new SpiffeError('authority_in_use', `unable to ${verb} current local authority`)
    }
    if (authorityId === this.#prepared?.record.authorityId) {
      const rule = verb === 'taint' ? 'only Old local authorities can be tainted' : 'only Old local authority can be revoked'
      throw new SpiffeError('authority_in_use', rule)
    }
    const old = this.#old.find(old => old.authorityId === authorityId) ?? this.#profile.appended(this.#deps.bundle.value, authorityId)
    if (old === undefined) throw new SpiffeError('authority_unknown', 'unexpected authority ID')
    return old
  }

  /** The journal has no row of what was appended to the bundle: that is its only place. */
  #ofOurs (record: AuthorityRecord): readonly AuthorityRecord[] {
    return this.#old.some(({ authorityId }) => authorityId === record.authorityId) ? [record] : []
  }

  async #activate (writer: AuthorityWriter): Promise<void> {
    const next = this.#prepared
    if (next === undefined) return
    const active = { ...next.record, state: 'active' as const }
    const retired = this.#active === undefined ? undefined : { ...this.#active.record, state: 'old' as const }
    // Published once more, should anybody have taken it out of the bundle since.
    await this.#save([...retired === undefined ? [] : [retired], active], writer, bundle => this.#profile.publish(bundle, active))
    this.#active = { record: active, held: next.held }
    this.#prepared = undefined
    if (retired !== undefined) this.#old = [...this.#old, retired]
    this.#report(active, 'activated')
    this.#deps.events?.activated(this.#profile.kind)
  }

  /** A bundle restored or edited from outside may lack a key that still signs. */
  async #publishAgain (writer: AuthorityWriter): Promise<void> {
    const signing = [this.#active, this.#prepared].flatMap(usable => usable === undefined ? [] : [usable.record])
    const publish = (bundle: Bundle) => signing.reduce((bundle, record) => this.#profile.publish(bundle, record), bundle)
    const shown = this.#deps.bundle.value
    if (publish(shown) !== shown) await this.#save([], writer, publish)
  }

  async #save (
    records: readonly AuthorityRecord[], { journal }: AuthorityWriter, publish: (bundle: Bundle) => Bundle
  ): Promise<void> {
    this.#deps.bundle.show(await journal.save(records, publish))
  }

  #usable (record: AuthorityRecord | undefined, before: Usable<Held> | undefined): Usable<Held> | undefined {
    if (record === undefined) return undefined
    const key = this.#deps.keys.getKey(this.#profile.keyId(record.slot))
    if (key === undefined || !Buffer.from(key.publicKey).equals(record.publicKey)) {
      this.#deps.log.warn({ authority: describe(record) }, `the key of this ${record.kind} authority is gone; another one takes over`)
      return undefined
    }
    return { record, held: before?.record.authorityId === record.authorityId ? before.held : this.#profile.hold(record, key) }
  }

  #report (record: AuthorityRecord, what: string): void {
    this.#deps.log.info({ authority: describe(record) }, `${this.#profile.kind} authority ${what}`)
  }
}

function describe (record: AuthorityRecord): Record<string, string> {
  return { id: record.authorityId, slot: record.slot, state: record.state, expires: record.notAfter.toISOString() }
}
