import type { Network } from '../policy/match.ts'

/** What of a request Envoy holds against a text. A subject that is missing meets nothing. */
export type Subject = 'peer' | 'port' | 'sni' | { readonly header: string }

/** As Envoy's string matchers have it; a `regex` is RE2 and about the whole text. */
export type TextMatch = { readonly exact: string } | { readonly prefix: string } | { readonly suffix: string } |
  { readonly contains: string } | { readonly regex: string }

export interface TextTest { readonly subject: Subject, readonly text: TextMatch }
/** `direct`: the other end of the connection; `remote`: the first caller, as trusted proxies tell it. */
export interface NetworkTest { readonly of: 'direct' | 'remote' | 'destination', readonly network: Network }
export interface All { readonly all: readonly Formula[] }
export interface Any { readonly any: readonly Formula[] }
export interface Not { readonly not: Formula }
/** Envoy has no words for it. */
export interface Unsayable { readonly unsayable: string }

/** A condition in Envoy's terms, true or false of every request; built by `all`, `any` and `not`, which leave no constants inside. */
export type Formula = boolean | All | Any | Not | TextTest | NetworkTest | Unsayable

export function all (formulas: readonly Formula[]): Formula {
  const rest = formulas.filter(one => one !== true)
  if (rest.includes(false)) return false
  const [first] = rest
  return rest.length < 2 ? first ?? true : { all: rest.flatMap(one => typeof one === 'object' && 'all' in one ? one.all : [one]) }
}

export function any (formulas: readonly Formula[]): Formula {
  const rest = formulas.filter(one => one !== false)
  if (rest.includes(true)) return true
  const [first] = rest
  return rest.length < 2 ? first ?? false : { any: rest.flatMap(one => typeof one === 'object' && 'any' in one ? one.any : [one]) }
}

export function not (formula: Formula): Formula {
  return typeof formula === 'boolean' ? !formula : 'not' in formula ? formula.not : { not: formula }
}

export type Leaf = TextTest | NetworkTest | Unsayable

/** The tests inside, in their order; ends with the first of which `visit` makes `true`, and says whether there was one. */
export function someLeaf (formula: Formula, visit: (leaf: Leaf) => boolean): boolean {
  if (typeof formula === 'boolean') return false
  if ('all' in formula) return formula.all.some(one => someLeaf(one, visit))
  if ('any' in formula) return formula.any.some(one => someLeaf(one, visit))
  return 'not' in formula ? someLeaf(formula.not, visit) : visit(formula)
}

/** What remains of it when something is known already; `undefined` where that says nothing of a test. */
export function assume (formula: Formula, known: (test: TextTest) => boolean | undefined): Formula {
  if (typeof formula === 'boolean') return formula
  if ('all' in formula) return all(formula.all.map(one => assume(one, known)))
  if ('any' in formula) return any(formula.any.map(one => assume(one, known)))
  if ('not' in formula) return not(assume(formula.not, known))
  return 'text' in formula ? known(formula) ?? formula : formula
}
