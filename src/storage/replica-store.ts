import type { Cursor } from './change-log.ts'

/** What one server says of itself, for `assay server status`. */
export interface Replica {
  readonly id: string
  /** For people: a host name. */
  readonly name: string
  readonly version: string
  readonly startedAt: Date
  /** By the clock of whoever asks. */
  readonly seenAt: Date
  /** How far it has followed the log. */
  readonly cursor: Cursor
  readonly facts: Readonly<Record<string, unknown>>
}

export interface ReplicaStore {
  /** Adds or replaces; `seenAt` is now. */
  report (replica: Omit<Replica, 'seenAt'>): Promise<void>
  list (): Promise<readonly Replica[]>
  remove (id: string): Promise<void>
  /** Forgets replicas not seen since. */
  prune (before: Date): Promise<void>
}
