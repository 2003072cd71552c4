import { isDeepStrictEqual } from 'node:util'
import type { KnownBundles } from '../../federation/client/foreign-authorities.ts'
import { FollowPartner } from '../../federation/client/follow-partner.ts'
import type { PartnerEvents } from '../../federation/client/partner-events.ts'
import type { PartnerState } from '../../federation/client/partner-state.ts'
import type { RefreshTimes } from '../../federation/client/refresh-time.ts'
import type { WebRoots } from '../../federation/client/web-roots.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { nap } from '../../runtime/nap.ts'
import { isStop } from '../../runtime/tasks.ts'
import type { Bundle } from '../../spiffe/bundle.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { FederationRelationship } from '../../spiffe/federation-relationship.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { Datastore, Stores } from '../../storage/datastore.ts'
import type { Replica } from '../replication/replica.ts'
import type { BundleRefresher } from './bundle-refresher.ts'
import type { FederationConfig } from './federation-config.ts'
import type { FederationPartners } from './federation-partners.ts'
import { PartnerSink } from './partner-sink.ts'
import { sourcesOf } from './partner-sources.ts'

export interface PartnerBundlesDeps {
  readonly trustDomain: TrustDomain
  readonly partners: FederationPartners
  readonly replica: Pick<Replica, 'bundleOf' | 'federatedBundles' | 'catchUp' | 'onChange'>
  readonly ownBundle: { readonly value: Bundle }
  readonly store: Datastore
  /** The stores of whoever does the trust domain's chores; undefined while another replica does. */
  readonly lease: { readonly stores: Stores | undefined }
  readonly copies: FederationConfig['copies']
  readonly webRoots: WebRoots
  readonly times: Partial<RefreshTimes>
  readonly events?: PartnerEvents | undefined
  readonly clock: Clock
  readonly random: () => number
  readonly log: Logger
}

interface Followed {
  readonly relationship: FederationRelationship
  readonly follower: FollowPartner
  readonly stop: AbortController
  readonly ended: Promise<void>
}

/** How soon a replica notices that the chores are its own now. */
const lookEveryMs = 1_000
const ending = new Error('this partner is not followed here any more')

/**
 * Keeps partners' bundles fresh: those of all relationships, on the replica that does the trust domain's chores. What is fetched goes
 * into the database, through which every replica, its agents and their proxies have it at once.
 */
export class PartnerBundles implements BundleRefresher {
  readonly #deps: PartnerBundlesDeps
  readonly #followed = new Map<TrustDomain, Followed>()

  constructor (deps: PartnerBundlesDeps) { this.#deps = deps }

  /** Of the partners that this replica follows now; empty on those that do not do the chores. */
  get states (): ReadonlyMap<TrustDomain, PartnerState> {
    return new Map([...this.#followed].map(([domain, { follower }]) => [domain, follower.state.value]))
  }

  /** Follows until the signal aborts. */
  async run (signal: AbortSignal): Promise<void> {
    const { replica, clock } = this.#deps
    let changed = Promise.withResolvers<void>()
    const unlisten = replica.onChange(({ federation }) => { if (federation.size > 0) changed.resolve() })
    try {
      for (;;) {
        this.#followWhoIsWanted()
        await nap(clock, lookEveryMs, changed.promise, signal)
        changed = Promise.withResolvers()
      }
    } finally {
      unlisten()
      const ended = [...this.#followed.values()].map(({ ended }) => ended)
      for (const domain of this.#followed.keys()) this.#end(domain)
      await Promise.all(ended)
    }
  }

  async refresh (relationship: FederationRelationship, signal: AbortSignal): Promise<void> {
    const { store } = this.#deps
    const followed = this.#followed.get(relationship.trustDomain)
    // Another replica may follow it at the same time, which does no harm: what is older is refused in the transaction.
    const follower = followed !== undefined && isDeepStrictEqual(followed.relationship, relationship)
      ? followed.follower
      : this.#followerOf(relationship, () => store)
    await follower.refresh(signal)
  }

  #followWhoIsWanted (): void {
    const { partners, lease } = this.#deps
    const wanted: ReadonlyMap<TrustDomain, FederationRelationship> = lease.stores === undefined ? new Map() : partners.all
    for (const [domain, { relationship }] of this.#followed) {
      if (!isDeepStrictEqual(wanted.get(domain), relationship)) this.#end(domain)
    }
    for (const relationship of wanted.values()) {
      if (!this.#followed.has(relationship.trustDomain)) this.#begin(relationship)
    }
  }

  #begin (relationship: FederationRelationship): void {
    const { log, lease } = this.#deps
    const { trustDomain } = relationship
    const stop = new AbortController()
    const follower = this.#followerOf(relationship, () => {
      if (lease.stores !== undefined) return lease.stores
      throw new SpiffeError('lease_lost', 'another replica follows the partners now')
    })
    const ended = follower.run(stop.signal).catch((error: unknown) => {
      if (isStop(error, stop.signal)) return
      log.error({ err: error, trustDomain }, 'a partner\'s bundle is not followed; beginning anew')
      if (this.#followed.get(trustDomain)?.stop === stop) this.#followed.delete(trustDomain)
    })
    this.#followed.set(trustDomain, { relationship, follower, stop, ended })
    log.info({ trustDomain, url: relationship.endpoint.url, profile: relationship.endpoint.profile.kind }, 'following a partner\'s bundle')
  }

  #end (trustDomain: TrustDomain): void {
    this.#followed.get(trustDomain)?.stop.abort(ending)
    this.#followed.delete(trustDomain)
  }

  #followerOf ({ trustDomain, endpoint }: FederationRelationship, stores: () => Stores): FollowPartner {
    const { partners, replica, copies, webRoots, times, events, clock, random, log } = this.#deps
    const catchUp = () => replica.catchUp()
    const sources = sourcesOf({ trustDomain, ...endpoint }, copies.get(trustDomain) ?? [], {
      webRoots, bundleOf: domain => this.#newestBundleOf(domain), clock
    })
    return new FollowPartner({
      trustDomain, sources, sink: new PartnerSink({ stores, fixed: partners.isFixed(trustDomain), catchUp }),
      knownBundles: () => this.#known(), times, events, clock, random, log
    })
  }

  #known (): KnownBundles {
    const { ownBundle, replica } = this.#deps
    return { own: ownBundle.value, partners: replica.federatedBundles }
  }

  async #newestBundleOf (domain: TrustDomain): Promise<Bundle | undefined> {
    const { trustDomain, ownBundle, replica } = this.#deps
    if (domain === trustDomain) return ownBundle.value
    await replica.catchUp()
    return replica.bundleOf(domain)
  }
}
