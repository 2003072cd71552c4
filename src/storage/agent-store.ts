import type { Agent } from '../spiffe/agent.ts'
import type { Entry } from '../spiffe/entry.ts'
import type { Selector } from '../spiffe/selector.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'
import type { IssuedSvid } from './issued-svid-store.ts'
import type { PageRequest } from './page.ts'
import type { SetMatch } from './set-match.ts'

/** All given conditions must hold (spire-surface §1.3). */
export interface AgentFilter {
  /** Empty filters nothing. */
  readonly attestationType?: string | undefined
  readonly selectors?: SetMatch<Selector> | undefined
  readonly banned?: boolean | undefined
  readonly canReattest?: boolean | undefined
  readonly expiresBefore?: Date | undefined
  /** Asked about each agent that fulfils the rest: costs a look at all of them. */
  readonly keep?: ((agent: Agent) => boolean) | undefined
}

export interface AgentPage {
  readonly agents: readonly Agent[]
  /** Empty only when the page is empty or everything was asked for. */
  readonly nextPageToken: string
}

export interface AgentRemoval {
  readonly agent: Agent
  /** The aliases `CreateJoinToken` had made for this agent; gone with it. */
  readonly entries: readonly Entry[]
}

export interface AttestOptions {
  /** To be taken. */
  readonly joinToken?: string | undefined
  /** Whether there must be no such agent yet. */
  readonly onlyOnce?: boolean | undefined
  /** The SVID that the agent is to be given, to be recorded with it; as in `IssuedSvidStore.record`, nothing slips through. */
  readonly issued?: IssuedSvid | undefined
}

export interface AgentPruning {
  /** Whether agents go that cannot attest again with what they have (trust on first use). */
  readonly includeTofu: boolean
  /** How many at most; 1000 unless told. */
  readonly limit?: number | undefined
}

/** Attested nodes, one row each. All methods that name an agent throw `agent_not_found` unless they say otherwise. */
export interface AgentStore {
  /**
   * Records the SVID, takes the join token and writes the agent's row, in one transaction: either token and row change or neither. Those
   * that come at the same time share it. An earlier row of the same agent is replaced: selectors, serial number; a serial number not yet
   * used is forgotten; the version it last reported stays if `agent.agentVersion` is empty.
   * @throws {SpiffeError} `join_token_invalid` (unknown, used or expired), `agent_banned`, `attestation_refused` (there is such an agent),
   *   `spiffe_id_revoked`
   */
  attest (agent: Agent, options?: AttestOptions): Promise<Agent>
  /** `undefined` when there is none. */
  get (id: SpiffeId): Promise<Agent | undefined>
  /** @throws {SpiffeError} `page_token_malformed`, `argument_invalid` (an empty set in the filter) */
  list (filter: AgentFilter, page: PageRequest): Promise<AgentPage>
  count (filter: AgentFilter): Promise<number>
  /** Every agent in row order, read in chunks; what is written meanwhile may or may not be seen. */
  all (): AsyncIterable<Agent>
  /** Evicts: the row goes, with its join-token aliases; the node may attest again. */
  delete (id: SpiffeId): Promise<AgentRemoval>
  /** Blanks both serial numbers; attestation is refused until the row is deleted. */
  ban (id: SpiffeId): Promise<Agent>
  /** Remembers the serial number of a renewed SVID that was not used yet. @throws {SpiffeError} `agent_banned` */
  setNewSerial (id: SpiffeId, serialNumber: string, expiresAt: Date): Promise<Agent>
  /**
   * The renewed SVID was used: it becomes the current one. Doing so twice is harmless.
   * @throws {SpiffeError} `agent_banned`, `agent_not_active` (this serial number is neither the new nor the current one)
   */
  promoteSerial (id: SpiffeId, newSerialNumber: string): Promise<Agent>
  /** @throws {SpiffeError} `argument_invalid` beyond 255 characters */
  setVersion (id: SpiffeId, agentVersion: string): Promise<Agent>
  /** Removes agents whose SVID expired before `before`, oldest rows first. Banned ones stay: their row is the ban. */
  deleteExpired (before: Date, pruning: AgentPruning): Promise<readonly AgentRemoval[]>
}
