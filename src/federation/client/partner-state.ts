import type { ErrorCode } from '../../spiffe/errors.ts'

/** How a partner's bundle fares: for status pages and metrics. */
export interface PartnerState {
  readonly sources: readonly SourceState[]
  /** Polls in a row in which the endpoint, the first source, gave nothing that could be taken. */
  readonly failures: number
  /** When some source last gave what is in force, or said that it still is; undefined since the process started. */
  readonly lastSuccessAt: Date | undefined
  /** Of the source that last succeeded. */
  readonly suppliedBy: string | undefined
  readonly nextPollAt: Date | undefined
  /** Of the bundle in force. */
  readonly sequenceNumber: bigint | undefined
  readonly refreshHintSeconds: number | undefined
  readonly x509Authorities: number
  readonly jwtAuthorities: number
  /** When X509-SVIDs of this domain stop being accepted unless a newer bundle comes; undefined when none is accepted anyway. */
  readonly trustEndsAt: Date | undefined
}

export interface SourceState {
  readonly name: string
  readonly lastSuccessAt: Date | undefined
  /** Stays until the source succeeds again. */
  readonly lastError: SourceError | undefined
}

export interface SourceError {
  readonly at: Date
  /** Undefined for a bug, which is in the log. */
  readonly code: ErrorCode | undefined
  /** Of the standard, where one was broken. */
  readonly requirement: string | undefined
  readonly message: string
}
