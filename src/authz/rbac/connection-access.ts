import { createHash } from 'node:crypto'
import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { PolicySet } from '../policy/policy-set.ts'
import type { Rule } from '../policy/rule.ts'
import { type Refusal, refusals } from './federation.ts'
import { all, type Formula } from './formula.ts'
import { excludes, implies, textOf } from './implies.ts'
import { reasonOf, ruleFormula, targetFormula } from './rule-formula.ts'
import type { Place } from './test-formula.ts'

/** Who may have a connection to one workload of which nothing is known but who opened it, as far as policies say. */
export interface ConnectionAccess {
  /** Whether it takes a rule to be let in. */
  readonly closed: boolean
  /** Text of a condition → the condition under which a rule lets in; */
  readonly allowed: ReadonlyMap<string, Formula>
  /** and those under which one refuses, before that, in the order in which they are asked. */
  readonly refused: ReadonlyMap<string, Refusal>
  /** Of all of it, in hexadecimal. */
  readonly digest: string
}

/** Nobody. */
export const noConnections: ConnectionAccess = accessOf(true, new Map(), new Map())

/** @param set with its selectors resolved */
export function connectionAccess (set: PolicySet, destination: SpiffeId): ConnectionAccess {
  const place: Place = { destination, kind: 'network', paths: 'any' }
  const rules = set.rules.filter(rule => !rule.shadow && targetFormula(rule, place) !== false)
  const { refusals: refused, timed } = refusals(set, destination, { now: undefined })
  const conditions = (actions: readonly Rule['action'][], bound: 'certain' | 'possible'): Refusal[] =>
    rules.filter(({ action }) => actions.includes(action)).flatMap((rule): Refusal[] => {
      const found = ruleFormula(rule, bound, place)
      if (found === undefined) return []
      const when = all([found.caller, found.rest])
      return [{ name: rule.name, when: reasonOf(when) === undefined ? when : unsayable(`${rule.name} ${textOf(when)}`, set) }]
    })
  return accessOf(
    set.defaultAction === 'deny' || rules.some(({ action }) => action === 'allow'),
    new Map(conditions(['allow'], 'certain').map(({ when }) => [textOf(when), when])),
    firstOfEach([
      ...refused, ...timed.map(({ name }) => ({ name, when: unsayable(name, set) })), ...conditions(['deny', 'custom'], 'possible')
    ])
  )
}

/** Of several with one condition the first is the one that is told. */
function firstOfEach (refusals: readonly Refusal[]): Map<string, Refusal> {
  const byText = new Map<string, Refusal>()
  for (const refusal of refusals) {
    const text = textOf(refusal.when)
    if (!byText.has(text)) byText.set(text, refusal)
  }
  return byText
}

/** What Envoy has no words for is only known to be the same while all policies are. */
function unsayable (name: string, { revision }: PolicySet): Formula { return { unsayable: `${revision} ${name}` } }

function accessOf (
  closed: boolean, allowed: ReadonlyMap<string, Formula>, refused: ReadonlyMap<string, Refusal>
): ConnectionAccess {
  const digest = createHash('sha256').update(JSON.stringify([closed, [...allowed.keys()].toSorted(), [...refused.keys()].toSorted()]))
  return { closed, allowed, refused, digest: digest.digest('hex') }
}

/** Comparisons of conditions, beyond which nobody looks whether nothing was lost. */
const mostComparisons = 1_000_000

/** Whether somebody who was let in before may not be any more. `false` is sure. */
export function narrows (before: ConnectionAccess, after: ConnectionAccess): boolean {
  if (before.digest === after.digest) return false
  if (before.closed && before.allowed.size === 0) return false
  const lost = !after.closed ? [] : !before.closed ? [true] : missing(before.allowed, after.allowed)
  const [refusedBefore, refusedAfter] = [conditionsOf(before), conditionsOf(after)]
  const added = missing(refusedAfter, refusedBefore)
  if (lost.length * after.allowed.size + added.length * (before.refused.size + before.allowed.size) > mostComparisons) return true
  return !lost.every(one => [...after.allowed.values()].some(other => implies(one, other))) || !added.every(one =>
    [...refusedBefore.values()].some(other => implies(one, other)) ||
    // Nobody whom it refuses was let in.
    (before.closed && [...before.allowed.values()].every(other => excludes(one, other))))
}

function conditionsOf ({ refused }: ConnectionAccess): Map<string, Formula> {
  return new Map([...refused].map(([text, { when }]) => [text, when]))
}

function missing (from: ReadonlyMap<string, Formula>, among: ReadonlyMap<string, Formula>): Formula[] {
  return [...from].filter(([text]) => !among.has(text)).map(([, formula]) => formula)
}
