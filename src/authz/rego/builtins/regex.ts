import { compileGoRegexp, expandReplacement, GoRegexpError, matchesOf } from '../../../golang/go-regexp.ts'
import { NoValue, numberOf, textOf, type Builtin } from './operand.ts'

export const regexBuiltins: Readonly<Record<string, Builtin>> = {
  'regex.split': ([pattern, text]) => split(compile(textOf(pattern)), textOf(text)),
  'regex.find_n': ([pattern, text, count]) => {
    const most = numberOf(count)
    return matchesOf(compile(textOf(pattern)), textOf(text)).take(most < 0 ? Infinity : most).map(([match]) => match).toArray()
  },
  'regex.replace': ([text, pattern, replacement]) => {
    const [from, to] = [textOf(text), textOf(replacement)]
    let at = 0
    let replaced = ''
    for (const match of matchesOf(compile(textOf(pattern)), from)) {
      replaced += from.slice(at, match.index) + expandReplacement(to, match)
      at = match.index + match[0].length
    }
    return replaced + from.slice(at)
  },
  'regex.template_match': ([template, text, start, end]) => {
    const regexp = compile(`^${fromTemplate(textOf(template), textOf(start), textOf(end))}$`)
    return matchesOf(regexp, textOf(text)).next().done === false
  }
}

function compile (pattern: string): RegExp {
  try {
    return compileGoRegexp(pattern)
  } catch (error) {
    throw error instanceof GoRegexpError ? new NoValue() : error
  }
}

function split (regexp: RegExp, text: string): string[] {
  const parts: string[] = []
  let [begin, end] = [0, 0]
  for (const match of matchesOf(regexp, text)) {
    end = match.index
    const after = match.index + match[0].length
    if (after !== 0) parts.push(text.slice(begin, end))
    begin = after
  }
  return end === text.length && text !== '' ? parts : [...parts, text.slice(begin)]
}

/** Quotes what is outside of the delimiters. */
function fromTemplate (template: string, start: string, end: string): string {
  if (start.length !== 1 || end.length !== 1) throw new NoValue()
  let pattern = ''
  let depth = 0
  let part = ''
  for (const character of template) {
    if (character === start && depth++ === 0) {
      pattern += quote(part)
      part = ''
    } else if (character === end && depth > 0 && --depth === 0) {
      pattern += `(${part})`
      part = ''
    } else part += character
  }
  if (depth !== 0) throw new NoValue()
  return pattern + quote(part)
}

function quote (text: string): string { return text.replaceAll(/[\\.+*?()|[\]{}^$]/g, String.raw`\$&`) }
