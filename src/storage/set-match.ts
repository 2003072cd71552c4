/**
 * How the set an item holds must relate to the set that is asked for (spire-surface §1.5). `exact`: equal. `subset`: the item
 * holds at least one, and nothing else. `superset`: the item holds all of them. `any`: at least one in common.
 */
export type MatchKind = 'exact' | 'subset' | 'superset' | 'any'

export interface SetMatch<T> {
  readonly match: MatchKind
  /** Not empty; repeats count once. */
  readonly values: readonly T[]
}
