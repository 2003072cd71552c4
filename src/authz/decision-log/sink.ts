import type { DecisionRecord } from './decision-record.ts'

/** Why a decision is not where it should be. */
export type DropReason =
  /** More came than could be written: the buffer was full. */
  | 'full'
  /** One event alone is larger than the receiver takes. */
  | 'too_large'
  /** The receiver refused it for good. */
  | 'refused'
  /** The process stopped before it could be written. */
  | 'stopped'

/** Where decisions are written. */
export interface DecisionSink {
  /** For metrics, e.g. `file`. */
  readonly name: string
  /** Takes a decision, and never waits: without room it is dropped and counted. */
  offer (record: DecisionRecord): void
  /** Writes what is offered, until the signal aborts; then once what is left. Fails never: what cannot be written is tried again. */
  run (signal: AbortSignal): Promise<void>
}

/** What a sink tells of itself. */
export interface SinkObserver {
  written (sink: string, count: number): void
  dropped (sink: string, reason: DropReason, count: number): void
  /** An attempt failed; it is made again. */
  failed (sink: string, error: unknown): void
}
