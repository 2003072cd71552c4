import { hash } from 'node:crypto'
import { formatSelector, normalizeSelectors, type Selector } from '../../spiffe/selector.ts'

/** What selector tables hold: SHA-256 of `type:value`, since a value may be longer than an index takes. */
export function selectorKey (selector: Selector): Uint8Array {
  return hash('sha256', formatSelector(selector), 'buffer')
}

/** The keys of a set, without repeats. */
export function selectorKeys (selectors: readonly Selector[]): Uint8Array[] {
  return normalizeSelectors(selectors).map(selectorKey)
}

export function encodeSelectors (selectors: readonly Selector[]): string {
  return JSON.stringify(selectors.map(({ type, value }) => [type, value]))
}

export function decodeSelectors (text: string): Selector[] {
  return (JSON.parse(text) as ReadonlyArray<readonly [string, string]>).map(([type, value]) => ({ type, value }))
}
