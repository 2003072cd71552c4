import { SpiffeError } from './errors.ts'
import { isStorableText } from './storable-text.ts'

/** An attested fact about a node or a workload, e.g. `{ type: 'unix', value: 'uid:1000' }`. */
export interface Selector { readonly type: string, readonly value: string }

/**
 * Reads `type:value`; the value may hold further colons.
 * @throws {SpiffeError} `selector_malformed`
 */
export function parseSelector (text: string): Selector {
  const colon = text.indexOf(':')
  if (colon < 0) throw new SpiffeError('selector_malformed', `selector ${JSON.stringify(text)} has no colon`)
  return checkSelector({ type: text.slice(0, colon), value: text.slice(colon + 1) })
}

/**
 * Refuses an empty type, a type with a colon, an empty value, and text that no database stores (U+0000, lone surrogates).
 * @throws {SpiffeError} `selector_malformed`
 */
export function checkSelector ({ type, value }: Selector): Selector {
  if (type === '') throw new SpiffeError('selector_malformed', 'missing selector type')
  if (type.includes(':')) throw new SpiffeError('selector_malformed', `selector type contains ':': ${JSON.stringify(type)}`)
  if (value === '') throw new SpiffeError('selector_malformed', `missing selector value for type ${JSON.stringify(type)}`)
  if (!isStorableText(type + value)) throw new SpiffeError('selector_malformed', 'selector contains U+0000 or a lone surrogate')
  return { type, value }
}

/** `type:value`; also the key by which selectors are compared. */
export function formatSelector (selector: Selector): string {
  return `${selector.type}:${selector.value}`
}

/** Sorted by type then value, repeats removed. */
export function normalizeSelectors (selectors: readonly Selector[]): Selector[] {
  const byKey = new Map(selectors.map(selector => [formatSelector(selector), { type: selector.type, value: selector.value }]))
  return [...byKey.values()].toSorted((a, b) => compare(a.type, b.type) || compare(a.value, b.value))
}

/** Whether every one of `needed` is among `present`, given as `formatSelector` keys: an entry applies to a workload. */
export function isSubset (needed: readonly Selector[], present: ReadonlySet<string>): boolean {
  return needed.every(selector => present.has(formatSelector(selector)))
}

function compare (a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
