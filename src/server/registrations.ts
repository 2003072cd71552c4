import type { AttestOptions } from '../storage/agent-store.ts'
import type { BundleDeleteMode, BundleRemoval } from '../storage/bundle-store.ts'
import type { Stores } from '../storage/datastore.ts'
import type { FederationChange } from '../storage/federation-store.ts'
import type { CreateOutcome, EntryGuard, EntryUpdate } from '../storage/entry-store.ts'
import type { ServiceGuard } from '../storage/service-store.ts'
import type { Agent } from '../spiffe/agent.ts'
import type { Bundle } from '../spiffe/bundle.ts'
import type { Entry, EntryDraft } from '../spiffe/entry.ts'
import type { PolicyVersionDraft } from '../spiffe/policy-version.ts'
import type { PolicyOutcome } from '../storage/policy-store.ts'
import type { SpiffeError } from '../spiffe/errors.ts'
import type { FederationRelationship } from '../spiffe/federation-relationship.ts'
import type { Service, ServiceDraft } from '../spiffe/service.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'

/** What follows the log that the stores write. */
export interface Follows {
  catchUp (): Promise<void>
}

/**
 * All changes to entries, agents, federated bundles and relationships, services and policies: stored, then followed from the log, so
 * that whoever gets an answer finds the change in this replica's memory. Nothing else writes them.
 */
export class Registrations {
  readonly #store: Stores
  readonly #replica: Follows

  constructor (store: Stores, replica: Follows) {
    this.#store = store
    this.#replica = replica
  }

  createEntries (drafts: readonly EntryDraft[]): Promise<readonly CreateOutcome[]> {
    return this.#shown(this.#store.entries.createMany(drafts))
  }

  updateEntries (updates: readonly EntryUpdate[], guard?: EntryGuard): Promise<ReadonlyArray<Entry | SpiffeError>> {
    return this.#shown(this.#store.entries.updateMany(updates, guard))
  }

  deleteEntries (ids: readonly string[], guard?: EntryGuard): Promise<ReadonlyArray<Entry | SpiffeError>> {
    return this.#shown(this.#store.entries.deleteMany(ids, guard))
  }

  /** @throws {SpiffeError} `join_token_invalid`, `agent_banned`, `attestation_refused`, `spiffe_id_revoked` */
  attestAgent (agent: Agent, options: AttestOptions): Promise<Agent> {
    return this.#shown(this.#store.agents.attest(agent, options))
  }

  /** @throws {SpiffeError} `agent_not_found` */
  banAgent (id: SpiffeId): Promise<Agent> {
    return this.#shown(this.#store.agents.ban(id))
  }

  setNewSerial (id: SpiffeId, serialNumber: string, expiresAt: Date): Promise<Agent> {
    return this.#shown(this.#store.agents.setNewSerial(id, serialNumber, expiresAt))
  }

  setAgentVersion (id: SpiffeId, version: string): Promise<Agent> {
    return this.#shown(this.#store.agents.setVersion(id, version))
  }

  /** @throws {SpiffeError} `agent_not_found` */
  async evictAgent (id: SpiffeId): Promise<void> {
    await this.#shown(this.#store.agents.delete(id))
  }

  /** @throws {SpiffeError} `bundle_exists` */
  createBundle (bundle: Bundle): Promise<Bundle> {
    return this.#shown(this.#store.bundles.create(bundle))
  }

  setBundle (bundle: Bundle): Promise<Bundle> {
    return this.#shown(this.#store.bundles.set(bundle))
  }

  updateBundle (trustDomain: TrustDomain, change: (current: Bundle | undefined) => Bundle): Promise<Bundle> {
    return this.#shown(this.#store.bundles.update(trustDomain, change))
  }

  /** @throws {SpiffeError} `bundle_not_found`, `bundle_in_use` */
  deleteBundle (trustDomain: TrustDomain, mode: BundleDeleteMode): Promise<BundleRemoval> {
    return this.#shown(this.#store.bundles.delete(trustDomain, mode))
  }

  /** @throws {SpiffeError} `federation_exists` */
  createFederation (relationship: FederationRelationship, bundle?: Bundle): Promise<FederationRelationship> {
    return this.#shown(this.#store.federation.create(relationship, bundle))
  }

  /** @throws {SpiffeError} `federation_not_found` */
  updateFederation (trustDomain: TrustDomain, change: FederationChange): Promise<FederationRelationship> {
    return this.#shown(this.#store.federation.update(trustDomain, change))
  }

  /** @throws {SpiffeError} `federation_not_found` */
  deleteFederation (trustDomain: TrustDomain): Promise<FederationRelationship> {
    return this.#shown(this.#store.federation.delete(trustDomain))
  }

  createServices (drafts: readonly ServiceDraft[]): Promise<ReadonlyArray<Service | SpiffeError>> {
    return this.#shown(this.#store.services.createMany(drafts))
  }

  updateServices (drafts: readonly ServiceDraft[], guard?: ServiceGuard): Promise<ReadonlyArray<Service | SpiffeError>> {
    return this.#shown(this.#store.services.updateMany(drafts, guard))
  }

  deleteServices (ids: readonly string[], guard?: ServiceGuard): Promise<ReadonlyArray<Service | SpiffeError>> {
    return this.#shown(this.#store.services.deleteMany(ids, guard))
  }

  /** @throws {SpiffeError} `policy_conflict` */
  applyPolicies (draft: PolicyVersionDraft, replaces: number): Promise<PolicyOutcome> {
    return this.#shown(this.#store.policies.apply(draft, replaces))
  }

  /** What is stored counts: an answer does not turn into a failure because the database cannot be read a moment later. */
  async #shown<T> (write: Promise<T>): Promise<T> {
    const result = await write
    await this.#replica.catchUp().catch(() => {})
    return result
  }
}
