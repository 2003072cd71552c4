/**
 * `blocks`: starting would break somebody; `stays`: cannot be taken over, so that who needs it cannot move; `by-hand`: no API says or does
 * it, and the operator has to; `lost`: went with SPIRE's server.
 */
export type FindingKind = 'blocks' | 'stays' | 'by-hand' | 'lost'

export interface Finding {
  readonly kind: FindingKind
  /** For programs and for people who look it up in docs/takeover.md. */
  readonly code: string
  /** An ID or a name. */
  readonly about: string
  readonly message: string
  readonly next: string
}

/** Whether something is in the way. */
export function isBlocked (findings: readonly Finding[]): boolean { return findings.some(({ kind }) => kind === 'blocks') }
