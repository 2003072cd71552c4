import { RBAC_Action as Action } from '../../wire/generated/envoy-rbac.ts'
import type { XdsMatcher_OnMatchInit as OnMatchInit, XdsMatcherInit } from '../../wire/generated/xds-matcher.ts'
import { anything, type Dimension, keysOf } from '../policy/dimensions.ts'
import { all, type Subject, type TextTest } from './formula.ts'
import { namedAction } from './named-action.ts'
import type { PeerSource } from './peer.ts'
import { predicate, textInput } from './predicate.ts'
import { assumeOf, type RuleFormula, weightOf } from './rule-formula.ts'

const subjects = { 'source.id': 'peer', path: { header: ':path' } } as const satisfies Partial<Record<Dimension, Subject>>
export type Level = keyof typeof subjects

export interface TreeOptions {
  readonly peer: PeerSource
  /** Of rules that meet the request. */
  readonly action: keyof typeof Action
  /** By what the rules are divided, the first first. */
  readonly levels: readonly Level[]
  /** Told how many tests each place takes; throws when it is too much. */
  readonly spend: (tests: number) => void
}

/** Rules that are walked rather than divided further. */
const fewRules = 8
/** Places that one rule may take in a level, as in the engine's index. */
const mostPlaces = 256

/**
 * Finds the rules that can be about a request by who calls and by what the path begins with, and walks those alone. Whatever does not apply
 * falls through to the wider places, so that each rule that applies is found in one of its own.
 */
export function matcherTree (rules: readonly RuleFormula[], options: TreeOptions): XdsMatcherInit | undefined {
  const [level, ...levels] = options.levels
  if (level === undefined || rules.length <= fewRules) return walk(rules, options)
  const subject = subjects[level]
  const further = (some: readonly RuleFormula[]) => matcherTree(some, { ...options, levels })
  const [exact, begins, rest] = [new Map<string, RuleFormula[]>(), new Map<string, RuleFormula[]>(), [] as RuleFormula[]]
  for (const rule of rules) {
    const keys = keysOf(level, rule.rule)
    for (const key of keys.length > mostPlaces ? [anything] : keys) {
      if (key === anything) rest.push(rule)
      else if (key.startsWith('=') && level === 'source.id') place(exact, key.slice(1), rule, test => knowing(test, subject, key.slice(1)))
      // A path comes with its query and with escapes in any case: its beginning alone is sure.
      else place(begins, keyOfPath(key), rule, test => beginning(test, subject, keyOfPath(key)))
    }
  }
  return tree('exactMatchMap', exact, tree('prefixMatchMap', begins, further(rest)))

  function tree (kind: 'exactMatchMap' | 'prefixMatchMap', places: ReadonlyMap<string, RuleFormula[]>, rest: XdsMatcherInit | undefined) {
    const map = new Map([...places].toSorted(([a], [b]) => a < b ? -1 : 1).flatMap(([key, some]): Array<[string, OnMatchInit]> => {
      const matcher = further(some)
      return matcher === undefined ? [] : [[key, { matcher }]]
    }))
    if (map.size === 0) return rest
    const onNoMatch = rest === undefined ? {} : { onNoMatch: { matcher: rest } }
    return { matcherTree: { input: textInput(subject, options.peer), [kind]: { map } }, ...onNoMatch }
  }

  function place (places: Map<string, RuleFormula[]>, key: string, rule: RuleFormula, says: (test: TextTest) => boolean | undefined): void {
    const rest = assumeOf(rule, says)
    if (rest === undefined) return
    options.spend(weightOf(rest))
    const known = places.get(key)
    if (known === undefined) places.set(key, [rest])
    else known.push(rest)
  }
}

function keyOfPath (key: string): string { return key.replace(/^=/, '').replace(/%.*$/s, '') }

/** The rules one after the other; `undefined`: there are none. */
function walk (rules: readonly RuleFormula[], { peer, action }: TreeOptions): XdsMatcherInit | undefined {
  const matchers = []
  for (const { name, caller, rest } of rules) {
    const formula = all([caller, rest])
    const onMatch = { action: namedAction(name, Action[action]) }
    if (formula === true) return { ...matchers.length === 0 ? {} : { matcherList: { matchers } }, onNoMatch: onMatch }
    if (formula !== false) matchers.push({ predicate: predicate(formula, peer), onMatch })
  }
  return matchers.length === 0 ? undefined : { matcherList: { matchers } }
}

function isSame (a: Subject, b: Subject): boolean {
  return a === b || (typeof a === 'object' && typeof b === 'object' && a.header === b.header)
}

/** What is certain of a text that is this one. */
function knowing ({ subject, text }: TextTest, known: Subject, value: string): boolean | undefined {
  if (!isSame(subject, known)) return undefined
  if ('exact' in text) return text.exact === value
  if ('prefix' in text) return value.startsWith(text.prefix)
  if ('suffix' in text) return value.endsWith(text.suffix)
  return 'contains' in text ? value.includes(text.contains) : undefined
}

/** What is certain of a text that begins so. */
function beginning ({ subject, text }: TextTest, known: Subject, begin: string): boolean | undefined {
  if (!isSame(subject, known)) return undefined
  if ('exact' in text) return text.exact.startsWith(begin) ? undefined : false
  if ('prefix' in text) return begin.startsWith(text.prefix) ? true : text.prefix.startsWith(begin) ? undefined : false
  return undefined
}
