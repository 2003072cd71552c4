import type { DecisionEvent } from './decision-event.ts'

/**
 * What a running authorizer answers about decisions it remembers: `GET /v1/assay/decisions?request=ID`, or `?decision=ID`. 200 with this,
 * newest first, also when it remembers none; masked as in its log. 400 for a request with neither.
 */
export interface DecisionsAnswer {
  readonly decisions: readonly DecisionEvent[]
  /** How many decisions it remembers at most, and since when: what is older is forgotten. */
  readonly remembered: { readonly capacity: number, readonly since?: string | undefined }
}

export const decisionsPath = '/v1/assay/decisions'

/** Whether a decision is the one meant, by its own ID or by that of the caller's request. */
export function isMeant ({ decision_id: decisionId, custom }: DecisionEvent, id: string): boolean {
  return decisionId === id || (typeof custom === 'object' && custom?.request_id === id)
}
