import { arrayOf, membersOf, textOf, type Builtin } from './operand.ts'
import { sprintf } from './sprintf.ts'
import { isArray, isSet, type RegoValue } from '../rego-value.ts'

export const textBuiltins: Readonly<Record<string, Builtin>> = {
  sprintf: ([format, values]) => sprintf(textOf(format), arrayOf(values)),
  'strings.any_prefix_match': ([texts, bases]) => some(texts, bases, (text, base) => text.startsWith(base)),
  'strings.any_suffix_match': ([texts, bases]) => some(texts, bases, (text, base) => text.endsWith(base)),
  'strings.count': ([text, part]) => {
    const [whole, piece] = [textOf(text), textOf(part)]
    return piece === '' ? Array.from(whole).length + 1 : whole.split(piece).length - 1
  },
  indexof_n: ([text, part]) => {
    const [whole, piece] = [Array.from(textOf(text)), Array.from(textOf(part))]
    if (piece.length === 0) return undefined
    return whole.flatMap((_, at) => piece.every((character, index) => whole[at + index] === character) ? [at] : [])
  },
  'glob.quote_meta': ([pattern]) => textOf(pattern).replaceAll(/[*?\\[\]{}]/g, String.raw`\$&`)
}

function some (texts: RegoValue | undefined, bases: RegoValue | undefined, holds: (text: string, base: string) => boolean): boolean {
  const [left, right] = [textsOf(texts), textsOf(bases)]
  return left.some(text => right.some(base => holds(text, base)))
}

function textsOf (value: RegoValue | undefined): string[] {
  return isArray(value) || isSet(value) ? membersOf(value).map(textOf) : [textOf(value)]
}
