import { worstFirst } from '../../spiffe/lint-finding.ts'
import type { PolicySet } from '../policy/policy-set.ts'
import { deadRules } from './dead-rules.ts'
import { exposure } from './exposure.ts'
import { federation } from './federation.ts'
import type { Finding } from './finding.ts'
import { oddValues } from './odd-values.ts'
import { registered } from './registered.ts'
import type { RegisteredEntry } from './registered-entries.ts'

export interface LintOptions {
  readonly now: Date
  /** Without them nothing is said about who is registered. */
  readonly entries?: readonly RegisteredEntry[] | undefined
  /** `file:line` by rule, see `placesIn`. */
  readonly places?: ReadonlyMap<string, string> | undefined
}

/**
 * Looks for rules that decide nothing and for rules that let in more than they seem to. What is said to decide nothing never does from
 * `now` on; what is not found may still be so.
 * @param set as read: selectors need not be resolved
 * @returns the worst first, then by place
 */
export function lintPolicies (set: PolicySet, { now, entries, places }: LintOptions): readonly Finding[] {
  const found = [
    ...deadRules(set, now),
    ...set.rules.flatMap(rule => oddValues(rule, now)),
    ...exposure(set),
    ...federation(set, now),
    ...entries === undefined ? [] : registered(set, entries)
  ]
  // What one document says of several operations becomes several rules of one name.
  const unique = new Map(found.map(one => [`${one.code} ${one.about} ${one.message}`, one]))
  return worstFirst([...unique.values()].map(one => ({ ...one, where: one.about === undefined ? undefined : places?.get(one.about) })))
}
