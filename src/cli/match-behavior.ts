import { SelectorMatch_MatchBehavior as Match } from '../wire/generated/types.ts'

export const matchNames = ['exact', 'any', 'superset', 'subset'] as const

/** The wire's numbers, for selectors and for federated domains alike. */
export const matchBehaviors: Readonly<Record<typeof matchNames[number], number>> = {
  exact: Match.MATCH_EXACT, any: Match.MATCH_ANY, superset: Match.MATCH_SUPERSET, subset: Match.MATCH_SUBSET
}
