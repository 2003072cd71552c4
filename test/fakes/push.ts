import { OwnBundle } from '../../src/ca/own-bundle.ts'
import type { Clock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import type { AgentFeed, FeedStep } from '../../src/server/push/agent-feed.ts'
import { AgentFeeds } from '../../src/server/push/agent-feeds.ts'
import { Replica } from '../../src/server/replication/replica.ts'
import { StandAside } from '../../src/server/replication/stand-aside.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import type { Entry } from '../../src/spiffe/entry.ts'
import type { ServiceEndpoint } from '../../src/spiffe/service-endpoint.ts'
import type { Service } from '../../src/spiffe/service.ts'
import type { Revocation } from '../../src/spiffe/revocation.ts'
import type { SpiffeId } from '../../src/spiffe/spiffe-id.ts'
import type { TrustDomain } from '../../src/spiffe/trust-domain.ts'
import type { Cursor } from '../../src/storage/change-log.ts'
import type { Datastore } from '../../src/storage/datastore.ts'
import { ManualClock } from './clock.ts'

export interface PushReplica {
  readonly replica: Replica
  readonly feeds: AgentFeeds
  readonly ownBundle: OwnBundle
}

/** A replica on a datastore with the streams of its agents, without a wire in between. */
export async function openPushReplica (store: Datastore, trustDomain: TrustDomain, clock: Clock = new ManualClock()): Promise<PushReplica> {
  const ownBundle = await OwnBundle.open(trustDomain, store.bundles)
  const replica = await Replica.open({
    store, trustDomain, ownBundle, onAuthorities: async () => {}, maxStaleMs: 10_000, clock, log: silentLogger
  })
  const aside = new StandAside({ clock, log: silentLogger })
  return { replica, ownBundle, feeds: new AgentFeeds({ replica, ownBundle, trustDomain, aside }) }
}

/** What an agent makes of what it is told, as the real one does. */
export class FollowingAgent {
  readonly id: SpiffeId
  readonly #trustDomain: TrustDomain
  cursor: Cursor | undefined
  entries: ReadonlyMap<string, Entry> = new Map()
  bundles: ReadonlyMap<TrustDomain, Bundle> = new Map()
  services: ReadonlyMap<string, Service> = new Map()
  endpoints: ReadonlyMap<string, ServiceEndpoint> = new Map()
  readonly #mesh: boolean
  revocations: ReadonlyMap<string, Revocation> = new Map()
  #feed: (AgentFeed & Disposable) | undefined

  /** @param mesh whether it follows services */
  constructor (id: SpiffeId, trustDomain: TrustDomain, mesh = false) {
    this.id = id
    this.#mesh = mesh
    this.#trustDomain = trustDomain
  }

  get connected (): boolean { return this.#feed !== undefined }

  async connect ({ feeds }: Pick<PushReplica, 'feeds'>): Promise<void> {
    this.disconnect()
    this.#feed = await feeds.open(this.id, this.cursor, { mesh: this.#mesh })
  }

  disconnect (): void {
    this.#feed?.[Symbol.dispose]()
    this.#feed = undefined
  }

  /** Takes the next message over, if there is one. */
  take (): FeedStep | undefined {
    const step = this.#feed?.next()
    if (step === undefined) return undefined
    const entries = new Map(step.snapshot ? [] : this.entries)
    for (const id of step.removedEntryIds) entries.delete(id)
    for (const entry of step.entries) entries.set(entry.id, entry)
    const bundles = new Map(step.snapshot ? [] : this.bundles)
    for (const domain of step.removedTrustDomains) bundles.delete(domain)
    for (const bundle of step.bundles) bundles.set(bundle.trustDomain, bundle)
    const revocations = new Map(step.snapshot || step.revocations?.whole === true ? [] : this.revocations)
    for (const id of step.revocations?.removedIds ?? []) revocations.delete(id)
    for (const revocation of step.revocations?.revocations ?? []) revocations.set(revocation.id, revocation)
    const wanted = new Set([this.#trustDomain, ...[...entries.values()].flatMap(entry => entry.federatesWith)])
    for (const domain of bundles.keys()) if (!wanted.has(domain)) bundles.delete(domain)
    const { mesh } = step
    this.services = overlaid(step.snapshot ? new Map() : this.services, mesh.services, mesh.removedServiceIds)
    this.endpoints = overlaid(step.snapshot ? new Map() : this.endpoints, mesh.endpoints, mesh.removedEndpointIds)
    this.entries = entries
    this.bundles = bundles
    this.revocations = revocations
    this.cursor = step.cursor
    return step
  }

  acknowledge (unserved: readonly string[] = []): void {
    if (this.cursor !== undefined) this.#feed?.acknowledge(this.cursor, unserved)
  }

  get ids (): string[] { return [...this.entries.keys()].toSorted() }
}

function overlaid<T extends { readonly id: string }> (
  known: ReadonlyMap<string, T>, changed: readonly T[], removed: readonly string[]
): ReadonlyMap<string, T> {
  const after = new Map(known)
  for (const id of removed) after.delete(id)
  for (const value of changed) after.set(value.id, value)
  return after
}
