import type { AuthorityJournal, AuthorityWriter, JournalKind } from '../ca/authority-record.ts'
import type { CaEvents } from '../ca/ca-events.ts'
import { CertificateAuthority, type CertificateAuthorityOptions } from '../ca/certificate-authority.ts'
import { emptyBundle } from '../ca/own-bundle.ts'
import type { UpstreamAuthority, UpstreamTrust } from '../ca/upstream-authority.ts'
import { isShared, type KeyManager } from '../keys/key-manager.ts'
import type { CredentialComposer } from '../plugins/credential-composer.ts'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import { codeOf } from '../spiffe/errors.ts'
import type { Datastore, Stores } from '../storage/datastore.ts'
import type { LeaseKeeper } from './replication/lease-keeper.ts'

export interface AuthoritiesDeps {
  readonly store: Datastore
  readonly keys: KeyManager
  readonly upstream: UpstreamAuthority | undefined
  readonly composers: readonly CredentialComposer[]
  readonly lease: LeaseKeeper
  /** Owns the authorities where replicas do not share their keys. */
  readonly serverId: string
  readonly events?: CaEvents | undefined
  readonly clock: Clock
  readonly log: Logger
}

export interface AuthoritiesOptions extends Omit<CertificateAuthorityOptions, 'intermediate' | 'upstream' | 'composers'> {
  readonly defaultX509SvidTtlSeconds: number
  readonly agentTtlSeconds: number
}

const bootstrapEveryMs = 200

/**
 * The authorities as a replica has them. Where replicas share keys, the trust domain has one root and one JWT key, written by who holds
 * the lease, and each replica signs with an intermediate. Otherwise a replica has a root and a JWT key of its own, as in SPIRE, and on
 * SQLite there is but one server.
 */
export class Authorities {
  readonly ca: CertificateAuthority
  /** Whether all replicas sign for one root. */
  readonly shared: boolean
  readonly #deps: AuthoritiesDeps
  readonly #owner: string
  /** Rotation, commands and what the upstream says change the same slots; an upstream may take its time. */
  #lastChange: Promise<unknown> = Promise.resolve()
  /** What the upstream said last. */
  #trust: UpstreamTrust | undefined
  readonly #listeners: (() => Promise<void>)[] = []
  #failedRotations = 0

  private constructor (ca: CertificateAuthority, shared: boolean, owner: string, deps: AuthoritiesDeps) {
    this.ca = ca
    this.shared = shared
    this.#owner = owner
    this.#deps = deps
  }

  static async open (options: AuthoritiesOptions, deps: AuthoritiesDeps): Promise<Authorities> {
    const { store, keys, upstream, composers, events, clock, log } = deps
    const shared = isShared(keys)
    const owner = shared || store.kind === 'sqlite' ? '' : deps.serverId
    if (owner !== '') {
      log.warn(`the key manager is this replica's alone: it has ${upstream === undefined ? 'a root and ' : ''}a JWT key of its own, and ` +
        'each replica makes bundles larger; use the key manager "database", or one that keeps keys elsewhere, to share them')
    }
    const usualTtlSeconds = Math.max(options.defaultX509SvidTtlSeconds, options.agentTtlSeconds)
    const ca = await CertificateAuthority.open(
      { ...options, upstream, composers, intermediate: shared ? { usualTtlSeconds } : undefined },
      { keys, journal: journalOn(store, owner, options.trustDomain), bundles: store.bundles, events, clock, log }
    )
    const authorities = new Authorities(ca, shared, owner, deps)
    if (isShared(keys)) keys.onArrived?.(() => authorities.reload())
    return authorities
  }

  /** Makes the first authorities, or waits for the replica that does. On return this replica can sign. */
  async bootstrap (catchUp: () => Promise<void>, signal: AbortSignal): Promise<void> {
    for (;;) {
      if (this.#fenced) await this.#deps.lease.acquire()
      try {
        await this.rotateIfDue()
      } catch (error) {
        // With a CA at hand a server starts without its upstream.
        if (!this.ca.ready || this.#deps.upstream === undefined) throw error
        this.#deps.log.error({ err: error }, 'authorities could not be rotated; trying again later')
      }
      if (this.#fenced) await catchUp()
      if (this.ca.ready) return
      await this.#deps.clock.sleep(bootstrapEveryMs, signal)
    }
  }

  /** How often in a row authorities could not be rotated by now. */
  get failedRotations (): number { return this.#failedRotations }

  /** One look at the clock, where it is for this replica to look. */
  async rotateIfDue (): Promise<void> {
    try {
      await this.#rotateIfDue()
      this.#failedRotations = 0
    } catch (error) {
      if (codeOf(error) !== 'lease_lost') this.#failedRotations++
      throw error
    }
  }

  async #rotateIfDue (): Promise<void> {
    await this.#exclusively(async () => {
      const stores = this.#fenced ? this.#deps.lease.stores : this.#deps.store
      if (stores === undefined) return
      await this.ca.rotateIfDue(this.#writer(stores))
      // Said to a replica that had no lease then, or had no luck.
      if (this.#trust !== undefined) await this.ca.followUpstream(this.#trust, this.#writer(stores))
    })
  }

  /** Carries down what the upstream trusts, until the signal aborts. */
  async followUpstream (signal: AbortSignal): Promise<void> {
    const { upstream, lease, store, log } = this.#deps
    if (upstream?.watch === undefined) return
    for await (const trust of upstream.watch(signal)) {
      this.#trust = trust
      try {
        await this.#exclusively(async () => {
          const stores = this.#fenced ? lease.stores : store
          if (stores !== undefined) await this.ca.followUpstream(trust, this.#writer(stores))
        })
      } catch (error) {
        if (codeOf(error) !== 'lease_lost') log.error({ err: error }, 'what the upstream trusts could not be taken over; trying again')
      }
    }
  }

  /** Another replica changed authorities or keys. */
  async reload (): Promise<void> {
    const { keys } = this.#deps
    if (isShared(keys)) await keys.reload()
    await this.ca.reload()
    for (const listener of this.#listeners) await listener()
  }

  /** `listener` runs at the end of each `reload`, which waits for it. */
  onReloaded (listener: () => Promise<void>): void { this.#listeners.push(listener) }

  /** Runs an operator's command on the authorities, from whatever replica it was given to. */
  async command<T> (work: (writer: AuthorityWriter) => Promise<T>): Promise<T> {
    return await this.#exclusively(async () => {
      if (!this.#fenced) return await work(this.#writer(this.#deps.store))
      return await this.#deps.lease.command(async stores => {
        await this.reload()
        return await work(this.#writer(stores))
      })
    })
  }

  /** A change that any replica may make at any time: it only adds to the bundle. */
  async change<T> (work: (writer: AuthorityWriter) => Promise<T>): Promise<T> { return await work(this.#writer(this.#deps.store)) }

  async #exclusively<T> (work: () => Promise<T>): Promise<T> {
    const run = this.#lastChange.then(work)
    this.#lastChange = run.catch(() => {})
    return await run
  }

  /** Whether other replicas may write the same authorities. */
  get #fenced (): boolean { return this.#owner === '' }

  #writer (stores: Stores): AuthorityWriter {
    const { keys } = this.#deps
    return {
      journal: journalOn(stores, this.#owner, this.ca.bundle.value.trustDomain),
      keys: isShared(keys) ? keys.on(stores.keys) : keys
    }
  }
}

function journalOn ({ authorities }: Stores, owner: string, trustDomain: CertificateAuthorityOptions['trustDomain']): AuthorityJournal {
  return {
    list: kind => authorities.list(kind, ownerOf(kind, owner)),
    async save (records, publish) {
      const publication = { trustDomain, change: (bundle = emptyBundle(trustDomain)) => publish(bundle) }
      const bundle = await authorities.save(records.map(record => ({ ...record, owner: ownerOf(record.kind, owner) })), publication)
      if (bundle === undefined) throw new Error('the store published nothing')
      return bundle
    }
  }
}

/** What an upstream is trusted for is the whole trust domain's, as the bundle is. */
function ownerOf (kind: JournalKind, owner: string): string { return kind.startsWith('upstream') ? '' : owner }
