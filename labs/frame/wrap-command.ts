const width = 118
/** A program's name does not stand alone on its line. */
const shortest = 20

/** Breaks a long command before flags and pipes, as one would type it; never inside quotes or parentheses. */
export function wrapCommand (line: string): string {
  const lines = []
  let rest = line
  let indent = 0
  while (rest.length > width - indent) {
    const at = breakBefore(rest, width - indent)
    if (at === undefined) break
    lines.push(rest.slice(0, at))
    rest = rest.slice(at + 1)
    indent = 4
  }
  return [...lines, rest].join(' \\\n    ')
}

/** The last such blank that leaves room for the backslash, else the first one after it. */
function breakBefore (line: string, limit: number): number | undefined {
  let quote = ''
  let depth = 0
  let last: number | undefined
  for (let index = 0; index < line.length; index++) {
    const character = line[index] ?? ''
    if (index >= limit - 2 && last !== undefined) break
    if (quote === '' ? /['"]/.test(character) : character === quote) quote = quote === '' ? character : ''
    else if (quote !== '') continue
    else if (character === '(') depth++
    else if (character === ')') depth--
    else if (character === ' ' && depth === 0 && index >= shortest && /^(?:--?[A-Za-z]|[|>&])/.test(line.slice(index + 1))) last = index
  }
  return last
}
