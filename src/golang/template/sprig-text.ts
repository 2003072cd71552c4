import { createHash } from 'node:crypto'
import { posix } from 'node:path'
import type { TemplateFunction } from './template-functions.ts'
import { ForeignText, isList, isTrue, Missing, notRendered, Tree, type Value } from './template-values.ts'

/** Functions of Sprig on texts, the text last; by bytes where Sprig counts bytes. */

/** Of what a function makes, so that a template cannot make an ID longer than the renderer admits anyway. */
const maxBytes = 65_536

/** The characters of a text. @throws {SpiffeError} `template_not_rendered` */
export function textOf (value: Value | undefined): string {
  if (typeof value === 'string') return value
  if (value instanceof ForeignText) return value.text
  throw notRendered('a function that needs a text was given something else')
}

/** As Go prints it. @throws {SpiffeError} `template_not_rendered` */
export function printedOf (value: Value | undefined): string {
  if (value === undefined || value === null || isList(value) || value instanceof Tree || value instanceof Missing) return textOf(value)
  return value instanceof ForeignText ? value.text : String(value)
}

/** @throws {SpiffeError} `template_not_rendered` */
export function numberOf (value: Value | undefined): number {
  if (typeof value === 'number') return value
  throw notRendered('a function that needs a number was given something else')
}

/** What was made of foreign text is foreign as well. */
export function madeOf (values: readonly Value[], text: string): Value {
  if (text.length > maxBytes) throw notRendered(`a function makes a text that is longer than ${maxBytes} bytes`)
  const foreign = values.flatMap(value => isList(value) ? value : [value]).find(value => value instanceof ForeignText)
  return foreign === undefined ? text : new ForeignText(text, foreign.from)
}

/** Of a fixed number of arguments. */
export function taking (count: number, apply: (...values: Value[]) => Value): TemplateFunction {
  return { least: count, most: count, apply: values => apply(...values) }
}

const onText = (apply: (text: string) => string) => taking(1, value => madeOf([value], apply(textOf(value))))
const onTwo = (apply: (first: string, text: string) => string) =>
  taking(2, (first, value) => madeOf([value], apply(textOf(first), textOf(value))))
const about = (apply: (first: string, text: string) => boolean) => taking(2, (first, value) => apply(textOf(first), textOf(value)))

export const sprigTextFunctions: Readonly<Record<string, TemplateFunction>> = {
  trim: onText(text => text.replaceAll(/^[\s\x85]+|[\s\x85]+$/g, '')),
  trimAll: onTwo((set, text) => trimmed(text, set)),
  trimPrefix: onTwo((prefix, text) => text.startsWith(prefix) ? text.slice(prefix.length) : text),
  trimSuffix: onTwo((suffix, text) => suffix !== '' && text.endsWith(suffix) ? text.slice(0, -suffix.length) : text),
  upper: onText(text => mapped(text, character => character.toUpperCase())),
  lower: onText(text => mapped(text, character => character.toLowerCase())),
  title: onText(text => text.replaceAll(/(?<![\p{L}\p{N}_])\p{L}/gu, letter => mapped(letter, one => one.toUpperCase()))),
  untitle: onText(text => text.replaceAll(/(?<!\S)\S/gu, letter => mapped(letter, one => one.toLowerCase()))),
  nospace: onText(text => text.replaceAll(/[\t\n\v\f\r \x85\xa0]/g, '')),
  trunc: taking(2, (count, value) => madeOf([value], truncated(numberOf(count), textOf(value)))),
  abbrev: taking(2, (width, value) => madeOf([value], abbreviated(textOf(value), 0, numberOf(width)))),
  abbrevboth: taking(3, (left, right, value) => madeOf([value], abbreviated(textOf(value), numberOf(left), numberOf(right)))),
  substr: taking(3, (from, to, value) => madeOf([value], between(numberOf(from), numberOf(to), textOf(value)))),
  repeat: taking(2, (count, value) => madeOf([value], repeated(numberOf(count), textOf(value)))),
  replace: taking(3, (from, to, value) => madeOf([to, value], textOf(value).replaceAll(textOf(from), () => textOf(to)))),
  contains: about((part, text) => text.includes(part)),
  hasPrefix: about((prefix, text) => text.startsWith(prefix)),
  hasSuffix: about((suffix, text) => text.endsWith(suffix)),
  quote: { least: 0, most: 32, apply: values => madeOf(values, values.map(value => JSON.stringify(printedOf(value))).join(' ')) },
  squote: { least: 0, most: 32, apply: values => madeOf(values, values.map(value => `'${printedOf(value)}'`).join(' ')) },
  cat: { least: 0, most: 32, apply: values => madeOf(values, values.map(printedOf).join(' ')) },
  indent: taking(2, (spaces, value) => madeOf([value], indented(numberOf(spaces), textOf(value)))),
  nindent: taking(2, (spaces, value) => madeOf([value], `\n${indented(numberOf(spaces), textOf(value))}`)),
  plural: taking(3, (one, many, count) => numberOf(count) === 1 ? one : many),
  toString: taking(1, value => madeOf([value], printedOf(value))),
  sha1sum: onText(text => createHash('sha1').update(text).digest('hex')),
  sha256sum: onText(text => createHash('sha256').update(text).digest('hex')),
  adler32sum: onText(text => String(adler32(Buffer.from(text)))),
  b64enc: onText(text => Buffer.from(text).toString('base64')),
  b64dec: onText(text => decoded(text)),
  base: onText(text => text === '' ? '.' : posix.basename(text) || '/'),
  dir: onText(text => posix.normalize(text.slice(0, text.lastIndexOf('/') + 1)).replace(/(?<=.)\/$/, '')),
  clean: onText(text => posix.normalize(text).replace(/(?<=.)\/$/, '')),
  ext: onText(text => /\.[^./]*$/.exec(text)?.[0] ?? ''),
  isAbs: taking(1, value => textOf(value).startsWith('/')),
  fail: taking(1, value => { throw notRendered(textOf(value)) }),
  ternary: taking(3, (yes, no, value) => {
    if (typeof value !== 'boolean') throw notRendered('ternary decides by true or false')
    return value ? yes : no
  }),
  empty: taking(1, value => isEmpty(value)),
  default: { least: 1, most: 2, apply: ([otherwise, value]) => value === undefined || isEmpty(value) ? otherwise as Value : value },
  coalesce: { least: 0, most: 32, apply: values => values.find(value => !isEmpty(value)) ?? null },
  all: { least: 0, most: 32, apply: values => values.every(value => !isEmpty(value)) },
  any: { least: 0, most: 32, apply: values => values.some(value => !isEmpty(value)) }
}

export function isEmpty (value: Value): boolean { return !isTrue(value) }

/** A character whose other case is several stays, as in Go. */
function mapped (text: string, change: (character: string) => string): string {
  return Array.from(text, character => {
    const changed = change(character)
    return Array.from(changed).length === 1 ? changed : character
  }).join('')
}

function trimmed (text: string, set: string): string {
  const all = Array.from(text)
  const inner = (character: string) => !set.includes(character)
  const from = all.findIndex(inner)
  return from < 0 ? '' : all.slice(from, all.findLastIndex(inner) + 1).join('')
}

function truncated (count: number, text: string): string {
  const bytes = Buffer.from(text)
  if (count < 0) return bytes.length + count > 0 ? bytes.toString('utf8', bytes.length + count) : text
  return bytes.toString('utf8', 0, count)
}

function abbreviated (text: string, offset: number, width: number): string {
  if (width < 4 || (offset > 0 && width < 7)) return text
  const bytes = Buffer.from(text)
  if (bytes.length <= width) return text
  const from = bytes.length - Math.min(offset, bytes.length) < width - 3 ? bytes.length - (width - 3) : offset
  if (from <= 4) return `${bytes.toString('utf8', 0, width - 3)}...`
  // Goutils refuses it, and Sprig goes on with nothing.
  if (width < 7) return ''
  if (from + width - 3 < bytes.length) return `...${abbreviated(bytes.toString('utf8', from), 0, width - 3)}`
  return `...${bytes.toString('utf8', bytes.length - (width - 3))}`
}

function between (from: number, to: number, text: string): string {
  const bytes = Buffer.from(text)
  const begin = from < 0 ? 0 : from
  const end = from >= 0 && (to < 0 || to > bytes.length) ? bytes.length : to
  if (begin > end || end > bytes.length) throw notRendered(`substr goes beyond the ${bytes.length} bytes of its text`)
  return bytes.toString('utf8', begin, end)
}

function repeated (count: number, text: string): string {
  if (count < 0 || count * text.length > maxBytes) throw notRendered(`repeat ${count} times makes no text, or one that is too long`)
  return text.repeat(count)
}

function indented (spaces: number, text: string): string {
  const pad = repeated(spaces, ' ')
  return pad + text.replaceAll('\n', `\n${pad}`)
}

function adler32 (bytes: Uint8Array): number {
  let [a, b] = [1, 0]
  for (const byte of bytes) {
    a = (a + byte) % 65_521
    b = (b + a) % 65_521
  }
  return b * 65_536 + a
}

function decoded (text: string): string {
  const bytes = Buffer.from(text, 'base64')
  if (bytes.toString('base64') !== text) throw notRendered('b64dec was given what is not in base64')
  return bytes.toString('utf8')
}
