import type { Formula, Leaf, TextMatch } from './formula.ts'

/**
 * Whether the second holds wherever the first does. `true` is sure; `false` may mean that it was not seen: the answer to be careful with.
 */
export function implies (one: Formula, other: Formula): boolean {
  if (one === false || other === true) return true
  if (one === true || other === false) return false
  // What splits a condition without losing anything comes first.
  if ('any' in one) return one.any.every(part => implies(part, other))
  if ('all' in other) return other.all.every(part => implies(one, part))
  if ('any' in other && other.any.some(part => implies(one, part))) return true
  if ('all' in one && one.all.some(part => implies(part, other))) return true
  if ('not' in one || 'not' in other) return 'not' in one && 'not' in other && implies(other.not, one.not)
  return !('all' in one) && !('any' in other) && impliesLeaf(one, other)
}

function impliesLeaf (one: Leaf, other: Leaf): boolean {
  if (!('text' in one) || !('text' in other)) return isSame(one, other)
  return isSame(one.subject, other.subject) && impliesText(one.text, other.text)
}

function impliesText (one: TextMatch, other: TextMatch): boolean {
  if (isSame(one, other)) return true
  if ('regex' in one || 'regex' in other) return false
  const { exact, prefix, suffix } = { exact: undefined, prefix: undefined, suffix: undefined, ...one }
  if ('prefix' in other) return (exact ?? prefix)?.startsWith(other.prefix) === true
  if ('suffix' in other) return (exact ?? suffix)?.endsWith(other.suffix) === true
  return 'contains' in other && Object.values(one).some((text: string) => text.includes(other.contains))
}

/** Whether the two never hold together. `true` is sure, as for `implies`. */
export function excludes (one: Formula, other: Formula): boolean {
  if (one === false || other === false) return true
  if (one === true || other === true) return false
  if ('any' in one) return one.any.every(part => excludes(part, other))
  if ('any' in other) return other.any.every(part => excludes(one, part))
  if ('not' in one && implies(other, one.not)) return true
  if ('not' in other && implies(one, other.not)) return true
  if ('all' in one) return one.all.some(part => excludes(part, other))
  if ('all' in other) return other.all.some(part => excludes(one, part))
  return 'text' in one && 'text' in other && isSame(one.subject, other.subject) &&
    (isOther(one.text, other.text) || isOther(other.text, one.text))
}

/** Of what a text is exactly or begins with, whether it can also be the other. */
function isOther (one: TextMatch, other: TextMatch): boolean {
  if ('exact' in one) {
    if ('exact' in other) return one.exact !== other.exact
    if ('suffix' in other) return !one.exact.endsWith(other.suffix)
    return 'prefix' in other && !one.exact.startsWith(other.prefix)
  }
  return 'prefix' in one && 'prefix' in other && !one.prefix.startsWith(other.prefix) && !other.prefix.startsWith(one.prefix)
}

function isSame (one: unknown, other: unknown): boolean { return textOf(one) === textOf(other) }

/** The same for the same condition; a network's addresses are in its text. */
export function textOf (formula: unknown): string {
  return JSON.stringify(formula, (key, value: unknown) => key === 'addresses' ? undefined : value)
}
