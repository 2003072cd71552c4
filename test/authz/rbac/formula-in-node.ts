import type { Formula, TextTest } from '../../../src/authz/rbac/formula.ts'

/** What Envoy makes of a condition about one text. */
export function holdsOf (formula: Formula, text: string): boolean {
  if (typeof formula === 'boolean') return formula
  if ('all' in formula) return formula.all.every(one => holdsOf(one, text))
  if ('any' in formula) return formula.any.some(one => holdsOf(one, text))
  if ('not' in formula) return !holdsOf(formula.not, text)
  if ('text' in formula) return meets(formula, text)
  throw new Error(`no text: ${JSON.stringify(formula)}`)
}

const expressions = new Map<string, RegExp>()

function compiled (regex: string): RegExp {
  const known = expressions.get(regex)
  if (known !== undefined) return known
  const made = new RegExp(`^(?:${regex.replaceAll(String.raw`\C`, String.raw`[\s\S]`)})$`)
  expressions.set(regex, made)
  return made
}

function meets ({ text: match }: TextTest, text: string): boolean {
  if ('exact' in match) return text === match.exact
  if ('prefix' in match) return text.startsWith(match.prefix)
  if ('suffix' in match) return text.endsWith(match.suffix)
  if ('contains' in match) return text.includes(match.contains)
  return compiled(match.regex).test(text)
}
