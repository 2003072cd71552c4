import type { Agent } from '../spiffe/agent.ts'
import type { PolicyVersion } from '../spiffe/policy-version.ts'
import type { Bundle } from '../spiffe/bundle.ts'
import type { Entry } from '../spiffe/entry.ts'
import type { FederationRelationship } from '../spiffe/federation-relationship.ts'
import type { ServiceEndpoint } from '../spiffe/service-endpoint.ts'
import type { Service } from '../spiffe/service.ts'
import type { Revocation } from '../spiffe/revocation.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'

/** A place in the log. Numbers of different epochs cannot be compared: a restored or failed-over database begins a new one. */
export interface Cursor {
  readonly epoch: string
  /** 0 before the first change. */
  readonly number: number
}

/** Whether who stands at `cursor` knows what `required` says. */
export function hasReached (cursor: Cursor, required: Cursor): boolean {
  return cursor.epoch === required.epoch && cursor.number >= required.number
}

/** What changed between two places of the log, and how it is now; what is `undefined` is gone. */
export interface ChangedState {
  readonly entries: ReadonlyMap<string, Entry | undefined>
  readonly agents: ReadonlyMap<SpiffeId, Agent | undefined>
  readonly bundles: ReadonlyMap<TrustDomain, Bundle | undefined>
  readonly federation: ReadonlyMap<TrustDomain, FederationRelationship | undefined>
  /** Services and endpoints by id. */
  readonly services: ReadonlyMap<string, Service | undefined>
  readonly endpoints: ReadonlyMap<string, ServiceEndpoint | undefined>
  readonly revocations: ReadonlyMap<string, Revocation | undefined>
  /** The journal of authorities or their keys. */
  readonly authorities: boolean
  /** Absent: the same as before. */
  readonly policies?: { readonly active: PolicyVersion | undefined } | undefined
}

export type LogReading =
  /** The state at `cursor`, or later where `more` says that the log goes on. */
  | { readonly kind: 'changes', readonly cursor: Cursor, readonly state: ChangedState, readonly more: boolean }
  /** The log does not reach back to where the reader stands, or is another one: read everything anew. */
  | { readonly kind: 'lost' }

/**
 * Every change that replicas keep in memory, in the order in which the database committed it, without gaps: the last statement of each
 * changing transaction takes the next number from one row, whose lock makes numbers and commits come in the same order.
 */
export interface ChangeLog {
  /** What is read through the stores after this was answered is of that place or later: reading the log from there on misses nothing. */
  head (): Promise<Cursor>
  /** In one snapshot of the database. */
  read (after: Cursor): Promise<LogReading>
  /** Forgets changes from before that time; readers that were further behind are lost. */
  prune (olderThan: Date): Promise<void>
  /** `listener` runs after something was committed, here or elsewhere; it may also run for no reason. @returns stops it */
  onNudge (listener: () => void): () => void
  /** Keeps nudges coming until the signal aborts. */
  run (signal: AbortSignal): Promise<void>
  /** Whether nudges from other replicas are known to arrive; otherwise readers must poll. */
  readonly nudged: boolean
}
