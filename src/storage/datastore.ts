import type { AgentStore } from './agent-store.ts'
import type { AuthorityStore } from './authority-store.ts'
import type { BundleStore } from './bundle-store.ts'
import type { ChangeLog } from './change-log.ts'
import type { EndpointStore } from './endpoint-store.ts'
import type { EntryStore } from './entry-store.ts'
import type { FederationStore } from './federation-store.ts'
import type { IssuedSvidStore } from './issued-svid-store.ts'
import type { JoinTokenStore } from './join-token-store.ts'
import type { KeyStore } from './key-store.ts'
import type { LeaseStore } from './lease-store.ts'
import type { PartnerStateStore } from './partner-state-store.ts'
import type { PolicyStore } from './policy-store.ts'
import type { ProgressStore } from './progress-store.ts'
import type { ReplicaStore } from './replica-store.ts'
import type { ServiceStore } from './service-store.ts'
import type { RevocationStore } from './revocation-store.ts'

/**
 * What the server remembers. Any method may throw `datastore_unavailable` (retry helps) or `datastore_corrupt`, and one that writes
 * `datastore_outcome_unknown`; what a method acknowledged survives a crash of process and machine.
 */
export interface Stores {
  readonly kind: 'sqlite' | 'postgres'
  readonly entries: EntryStore
  readonly agents: AgentStore
  readonly joinTokens: JoinTokenStore
  readonly issuedSvids: IssuedSvidStore
  readonly revocations: RevocationStore
  readonly bundles: BundleStore
  readonly federation: FederationStore
  readonly partnerStates: PartnerStateStore
  readonly services: ServiceStore
  readonly endpoints: EndpointStore
  readonly policies: PolicyStore
  readonly authorities: AuthorityStore
  readonly keys: KeyStore
  readonly replicas: ReplicaStore
  readonly progress: ProgressStore
  readonly log: ChangeLog
}

export interface Datastore extends Stores, AsyncDisposable {
  readonly leases: LeaseStore
  /** Asks the database a question. @throws {SpiffeError} `datastore_unavailable` */
  ping (): Promise<void>
  /** How the database could lose what it confirmed; a sentence each, with the way out. @throws {SpiffeError} `datastore_unavailable` */
  warnings (): Promise<readonly string[]>
}
