import type { BundleDeleteMode, BundleRemoval } from '../storage/bundle-store.ts'
import type { Datastore } from '../storage/datastore.ts'
import type { CreateOutcome, EntryUpdate } from '../storage/entry-store.ts'
import { everything } from '../storage/page.ts'
import type { Agent } from '../spiffe/agent.ts'
import type { Bundle } from '../spiffe/bundle.ts'
import type { Entry, EntryDraft } from '../spiffe/entry.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import { AgentDirectory } from './agent-directory.ts'
import { InTurn } from './in-turn.ts'
import { Registry } from './registry.ts'

/**
 * All changes to entries, agents and federated bundles: stored first, then shown in the memory that answers agents. Listings
 * read the stores; nothing else writes them.
 */
export class Registrations {
  readonly registry: Registry
  readonly agents: AgentDirectory
  readonly #store: Datastore
  readonly #ownTrustDomain: TrustDomain
  readonly #bundles = new Map<TrustDomain, Bundle>()
  readonly #writes = new InTurn()

  private constructor (store: Datastore, trustDomain: TrustDomain) {
    this.#store = store
    this.#ownTrustDomain = trustDomain
    this.registry = new Registry(trustDomain)
    this.agents = new AgentDirectory((id, serial) => this.#changeAgent(() => store.agents.promoteSerial(id, serial)))
  }

  static async open (store: Datastore, trustDomain: TrustDomain): Promise<Registrations> {
    const registrations = new Registrations(store, trustDomain)
    const { registry, agents } = registrations
    const chunk: Entry[] = []
    for await (const entry of store.entries.all()) {
      chunk.push(entry)
      if (chunk.length >= 1000) registry.put(chunk.splice(0))
    }
    registry.put(chunk)
    for await (const agent of store.agents.all()) agents.put(agent)
    for (const bundle of (await store.bundles.list(everything)).bundles) registrations.#show(bundle)
    return registrations
  }

  createEntries (drafts: readonly EntryDraft[]): Promise<readonly CreateOutcome[]> {
    return this.#writes.run(async () => {
      const outcomes = await this.#store.entries.createMany(drafts)
      // Also what is there already: an earlier attempt may have stored it and lost its answer.
      this.registry.put(outcomes.flatMap(outcome => outcome.kind === 'refused' ? [] : [outcome.entry]))
      return outcomes
    })
  }

  updateEntries (updates: readonly EntryUpdate[]): Promise<ReadonlyArray<Entry | SpiffeError>> {
    return this.#writes.run(async () => {
      const outcomes = await this.#store.entries.updateMany(updates)
      this.registry.put(outcomes.filter(outcome => !(outcome instanceof SpiffeError)) as Entry[])
      return outcomes
    })
  }

  deleteEntries (ids: readonly string[]): Promise<ReadonlyArray<Entry | SpiffeError>> {
    return this.#writes.run(async () => {
      const outcomes = await this.#store.entries.deleteMany(ids)
      // Also what is not there any more, for the same reason.
      this.registry.remove(ids)
      return outcomes
    })
  }

  pruneEntries (now: Date): Promise<readonly Entry[]> {
    return this.#writes.run(async () => {
      const removed = await this.#store.entries.deleteExpired(now)
      if (removed.length > 0) this.registry.remove(removed.map(entry => entry.id))
      return removed
    })
  }

  /** @throws {SpiffeError} `join_token_invalid`, `agent_banned` */
  attestAgent (agent: Agent, joinToken?: string): Promise<Agent> {
    return this.#changeAgent(() => this.#store.agents.attest(agent, joinToken))
  }

  /** @throws {SpiffeError} `agent_not_found` */
  banAgent (id: SpiffeId): Promise<Agent> {
    return this.#changeAgent(() => this.#store.agents.ban(id))
  }

  setNewSerial (id: SpiffeId, serialNumber: string, expiresAt: Date): Promise<Agent> {
    return this.#changeAgent(() => this.#store.agents.setNewSerial(id, serialNumber, expiresAt))
  }

  setAgentVersion (id: SpiffeId, version: string): Promise<Agent> {
    return this.#changeAgent(() => this.#store.agents.setVersion(id, version))
  }

  /** @throws {SpiffeError} `agent_not_found` */
  evictAgent (id: SpiffeId): Promise<void> {
    return this.#writes.run(async () => {
      const { entries } = await this.#store.agents.delete(id)
      this.agents.remove(id)
      this.registry.forget(id)
      this.registry.remove(entries.map(entry => entry.id))
    })
  }

  /** A federated bundle; the own one is the certificate authority's. */
  bundleOf (trustDomain: TrustDomain): Bundle | undefined { return this.#bundles.get(trustDomain) }

  /** @throws {SpiffeError} `bundle_exists` */
  createBundle (bundle: Bundle): Promise<Bundle> {
    return this.#changeBundle(() => this.#store.bundles.create(bundle))
  }

  setBundle (bundle: Bundle): Promise<Bundle> {
    return this.#changeBundle(() => this.#store.bundles.set(bundle))
  }

  updateBundle (trustDomain: TrustDomain, change: (current: Bundle | undefined) => Bundle): Promise<Bundle> {
    return this.#changeBundle(() => this.#store.bundles.update(trustDomain, change))
  }

  /** @throws {SpiffeError} `bundle_not_found`, `bundle_in_use` */
  deleteBundle (trustDomain: TrustDomain, mode: BundleDeleteMode): Promise<BundleRemoval> {
    return this.#writes.run(async () => {
      const removal = await this.#store.bundles.delete(trustDomain, mode)
      this.#bundles.delete(trustDomain)
      this.registry.remove(removal.deletedEntries.map(entry => entry.id))
      this.registry.put(removal.updatedEntries)
      return removal
    })
  }

  #changeBundle (change: () => Promise<Bundle>): Promise<Bundle> {
    return this.#writes.run(async () => {
      const bundle = await change()
      this.#show(bundle)
      return bundle
    })
  }

  #show (bundle: Bundle): void {
    if (bundle.trustDomain !== this.#ownTrustDomain) this.#bundles.set(bundle.trustDomain, bundle)
  }

  #changeAgent (change: () => Promise<Agent>): Promise<Agent> {
    return this.#writes.run(async () => {
      const agent = await change()
      this.agents.put(agent)
      return agent
    })
  }
}
