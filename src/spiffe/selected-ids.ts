import type { SpiffeId } from './spiffe-id.ts'

/** Who is meant by each list of selectors that policies name; by `selectorListKey`. */
export type SelectedIds = ReadonlyMap<string, ReadonlySet<SpiffeId>>

/** @param selectors `type:value`, in the order in which the rule names them */
export function selectorListKey (selectors: readonly string[]): string { return JSON.stringify(selectors) }
