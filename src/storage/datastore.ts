import type { AgentStore } from './agent-store.ts'
import type { AuthorityStore } from './authority-store.ts'
import type { BundleStore } from './bundle-store.ts'
import type { EntryStore } from './entry-store.ts'
import type { JoinTokenStore } from './join-token-store.ts'

/**
 * Everything the server remembers. Any method may throw `datastore_unavailable` (retry helps) or `datastore_corrupt`;
 * what a method acknowledged survives a crash of process and machine.
 */
export interface Datastore extends AsyncDisposable {
  readonly kind: 'sqlite' | 'postgres'
  readonly entries: EntryStore
  readonly agents: AgentStore
  readonly joinTokens: JoinTokenStore
  readonly bundles: BundleStore
  readonly authorities: AuthorityStore
  /** Asks the database a question. @throws {SpiffeError} `datastore_unavailable` */
  ping (): Promise<void>
}
