import { SpiffeError } from '../../spiffe/errors.ts'
import type { Match } from './match.ts'
import type { PolicySet, SelectorDirectory } from './policy-set.ts'
import type { Rule, Test } from './rule.ts'

/** Says which IDs are meant by selectors. @param directory `undefined`: nobody knows @throws {SpiffeError} `policy_unsupported` */
export function resolveSelectors (set: PolicySet, directory: SelectorDirectory | undefined): PolicySet {
  return { ...set, rules: set.rules.map(rule => resolveRule(rule, directory)) }
}

/** The selectors that the rules name, each list once. */
export function selectorsIn (rules: readonly Rule[]): ReadonlyArray<readonly string[]> {
  const lists = new Map<string, readonly string[]>()
  for (const { any = [], none = [] } of rules.flatMap(testsOf)) {
    for (const match of [...any, ...none]) if (match.kind === 'selected') lists.set(JSON.stringify(match.selectors), match.selectors)
  }
  return [...lists.values()]
}

function testsOf ({ target, from = [], to = [], when }: Rule): Test[] { return [...target, ...from.flat(), ...to.flat(), ...when] }

function resolveRule (rule: Rule, directory: SelectorDirectory | undefined): Rule {
  if (selectorsIn([rule]).length === 0) return rule
  if (directory === undefined) {
    throw new SpiffeError('policy_unsupported', `rule ${rule.name} names selectors, and no entries are known here: name SPIFFE IDs`)
  }
  const ids = (match: Match): Match => match.kind === 'selected' ? { ...match, ids: directory(match.selectors) } : match
  const resolve = (tests: readonly Test[]) => tests.map(test => ({ ...test, any: test.any?.map(ids), none: test.none?.map(ids) }))
  return { ...rule, target: resolve(rule.target), from: rule.from?.map(resolve), to: rule.to?.map(resolve), when: resolve(rule.when) }
}
