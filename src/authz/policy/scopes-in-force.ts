import type { PolicySet } from './policy-set.ts'

/** A set as it stands at one instant. */
export interface SetInForce {
  /** The same object while nothing of it has ended. */
  readonly set: PolicySet
  /** When the next of its relationships ends; `undefined`: none does. */
  readonly nextEnd: Date | undefined
}

/**
 * Leaves out relationships with other trust domains that have ended. Whoever decides about each request need not ask for it; it is for what
 * goes on without being asked about again.
 */
export function scopesInForce (set: PolicySet, now: Date): SetInForce {
  const scopes = set.scopes.filter(({ until }) => until === undefined || now < until)
  const ends = scopes.flatMap(({ until }) => until === undefined ? [] : [until.getTime()])
  return {
    set: scopes.length === set.scopes.length ? set : { ...set, scopes },
    nextEnd: ends.length === 0 ? undefined : new Date(Math.min(...ends))
  }
}
