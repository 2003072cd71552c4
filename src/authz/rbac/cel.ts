import type { ConnectionAccess } from './connection-access.ts'
import type { Formula, Leaf } from './formula.ts'

/** Of Envoy's attributes: the first URI SAN of the client's certificate. */
export const celPeer = 'connection.uri_san_peer_certificate'

/** What conditions are about, in CEL. */
export interface CelWords {
  /** The caller's SPIFFE ID, a text. */
  readonly peer: string
  /** Whether it is about this port of the workload. */
  port (port: number): string
}

/** Of a connection by mutual TLS. */
export const celOfConnection: CelWords = { peer: celPeer, port: port => `destination.port == ${port}` }
/** Of a connection without. */
export const celOfPlaintext: CelWords = { ...celOfConnection, peer: '\'\'' }
/** Of a tunnel's stream, where tunnels end: `:authority` names the port, in the one spelling that is let in. */
export const celOfTunnel: CelWords = { peer: celPeer, port: port => `request.host.endsWith(':${port}')` }

/** Expressions are worked out for each connection. */
const mostConditions = 500
/** Of one expression; CEL's parser takes twice as much. */
const mostCharacters = 50_000
/** What is in each other: CEL's parser takes 32 of Envoy. */
const mostChained = 8
const mostNested = 16

/** Whose connection nobody refused; a rule's name has a `/`, or is one of those that come before all rules. */
export const nobodyRefused = 'allowed'
/** Whose connection no rule lets in. */
export const nobodyAllowed = 'none'

/** `'`, `\`, `%` and what could end a command of Envoy's formats are escaped. */
export function celText (value: string): string {
  return `'${value.replaceAll(/[\\'%)\n]/g, one => `\\x${one.charCodeAt(0).toString(16).padStart(2, '0')}`)}'`
}

/** A condition in CEL, and who refuses where it holds. */
export interface CelRefusal { readonly name: string, readonly when: string }

/** Who refuses a connection by policies. What has no words is left out: rules that are asked later still refuse. */
export function celOfPolicies ({ closed, allowed, refused }: ConnectionAccess, words: CelWords): CelRefusal[] {
  if (allowed.size + refused.size > mostConditions) return []
  const refusing = [...refused.values()].map(({ name, when }) => ({ name, when: celOf(when, false, words) }))
  const allowing = closed ? anyOf([...allowed.values()].map(formula => celOf(formula, true, words))) : 'true'
  return [...refusing, { name: nobodyAllowed, when: allowing === 'true' ? 'false' : `!(${allowing})` }]
}

/**
 * Expressions that give the name of the first whose condition holds, otherwise `allowed`; each is asked when those before it gave that.
 * A condition that is too long or too deep for CEL is left out.
 */
export function celOfVerdict (refusals: readonly CelRefusal[]): string[] {
  const chains: CelRefusal[][] = [[]]
  let characters = 0
  for (const refusal of refusals) {
    const more = refusal.when.length + refusal.name.length
    if (refusal.when === 'false' || more > mostCharacters || depthOf(refusal.when) > mostNested) continue
    if (chains.at(-1)!.length === mostChained || characters + more > mostCharacters) {
      chains.push([])
      characters = 0
    }
    chains.at(-1)!.push(refusal)
    characters += more
  }
  return chains.map(chain => [...chain.map(({ name, when }) => `${when} ? ${celText(name)}`), celText(nobodyRefused)].join(' : '))
}

function depthOf (text: string): number {
  let [depth, deepest] = [0, 0]
  for (const [bracket] of text.matchAll(/[()]/g)) {
    depth += bracket === '(' ? 1 : -1
    deepest = Math.max(deepest, depth)
  }
  return deepest
}

/** @param wide what stands for a test without words: `true` makes the expression true of more, `false` of less */
function celOf (formula: Formula, wide: boolean, words: CelWords): string {
  if (typeof formula === 'boolean') return String(formula)
  if ('all' in formula) return `(${formula.all.map(one => celOf(one, wide, words)).join(' && ')})`
  if ('any' in formula) return anyOf(formula.any.map(one => celOf(one, wide, words)))
  if ('not' in formula) return `!(${celOf(formula.not, !wide, words)})`
  return celOfLeaf(formula, words) ?? String(wide)
}

function anyOf (texts: readonly string[]): string { return texts.length === 0 ? 'false' : `(${texts.join(' || ')})` }

/** Envoy bounds regular expressions here so tightly that none is tried. */
function celOfLeaf (leaf: Leaf, words: CelWords): string | undefined {
  if (!('text' in leaf)) return undefined
  const { subject, text } = leaf
  if (subject === 'port') return 'exact' in text && /^\d{1,5}$/.test(text.exact) ? words.port(Number(text.exact)) : undefined
  if (subject !== 'peer' || 'regex' in text) return undefined
  const value = words.peer
  if ('exact' in text) return `${value} == ${celText(text.exact)}`
  if ('prefix' in text) return `${value}.startsWith(${celText(text.prefix)})`
  if ('suffix' in text) return `${value}.endsWith(${celText(text.suffix)})`
  return `${value}.contains(${celText(text.contains)})`
}
