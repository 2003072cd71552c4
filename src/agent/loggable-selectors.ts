import { formatSelector, type Selector } from '../spiffe/selector.ts'

/**
 * What may be logged of a workload's selectors: values may be secret, so an operator names the kinds that are not.
 * @param prefixes such as `unix`, `k8s:ns`; a whole selector too
 * @returns sorted, with commas between; empty when none may be
 */
export function loggableSelectors (selectors: readonly Selector[], prefixes: readonly string[]): string {
  return selectors.map(formatSelector)
    .filter(selector => prefixes.some(prefix => selector === prefix || selector.startsWith(`${prefix}:`)))
    .toSorted().join(',')
}
