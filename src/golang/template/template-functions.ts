import { ForeignText, isList, isTrue, lengthOf, memberOf, Missing, notRendered, Tree, type Value } from './template-values.ts'

/** Puts foreign text where it is allowed. @throws {SpiffeError} `template_not_rendered` */
export type Admit = (text: ForeignText) => string

/** How many arguments it takes, and what it makes of them; none of them is missing. */
export interface TemplateFunction {
  readonly least: number
  readonly most: number
  readonly apply: (values: readonly Value[], admit: Admit) => Value
}

export interface TemplateFunctions {
  readonly offered: ReadonlyMap<string, TemplateFunction>
  /** Functions that whoever wrote a template may know from elsewhere. */
  readonly refused: ReadonlySet<string>
}

/** Go's functions of text/template that IDs can need; `and` and `or` have their own way in the renderer. */
const functions: Readonly<Record<string, TemplateFunction>> = {
  and: { least: 1, most: 32, apply: values => values.find(value => !isTrue(value)) ?? values.at(-1) as Value },
  or: { least: 1, most: 32, apply: values => values.find(value => isTrue(value)) ?? values.at(-1) as Value },
  not: { least: 1, most: 1, apply: ([value]) => !isTrue(value as Value) },
  eq: { least: 2, most: 32, apply: ([first, ...others]) => others.some(other => compare('eq', first, other) === 0) },
  ne: { least: 2, most: 2, apply: ([a, b]) => compare('ne', a, b) !== 0 },
  lt: { least: 2, most: 2, apply: ([a, b]) => compare('lt', a, b) < 0 },
  le: { least: 2, most: 2, apply: ([a, b]) => compare('le', a, b) <= 0 },
  gt: { least: 2, most: 2, apply: ([a, b]) => compare('gt', a, b) > 0 },
  ge: { least: 2, most: 2, apply: ([a, b]) => compare('ge', a, b) >= 0 },
  index: { least: 1, most: 8, apply: ([first, ...keys]) => keys.reduce<Value>((value, key) => indexed(value, key), first as Value) },
  len: { least: 1, most: 1, apply: ([value]) => length(value as Value) },
  slice: { least: 1, most: 3, apply: ([value, from, to]) => sliced(value as Value, from, to) },
  print: { least: 0, most: 32, apply: printed },
  println: { least: 0, most: 32, apply: (values, admit) => `${values.map(value => plainText(value, admit)).join(' ')}\n` },
  printf: { least: 1, most: 32, apply: formatted }
}

/** Those of text/template alone. */
export const goFunctions: TemplateFunctions = {
  offered: new Map(Object.entries(functions)), refused: new Set(['call', 'html', 'js', 'urlquery'])
}

/** @throws {SpiffeError} `template_not_rendered` */
export function applyFunction ({ offered }: TemplateFunctions, name: string, values: readonly Value[], admit: Admit): Value {
  const { least, most, apply } = offered.get(name) as TemplateFunction
  if (values.length < least || values.length > most) {
    throw notRendered(`${name} takes ${least === most ? least : `${least} to ${most}`} arguments, and has ${values.length}`)
  }
  const missing = name === 'and' || name === 'or' || name === 'not' ? undefined : values.find(value => value instanceof Missing)
  if (missing !== undefined) throw nothingThere(missing)
  return apply(values, admit)
}

/** What stands in the output for a value. @throws {SpiffeError} `template_not_rendered` */
export function plainText (value: Value, admit: Admit): string {
  if (value instanceof ForeignText) return admit(value)
  if (value instanceof Missing) throw nothingThere(value)
  if (value instanceof Tree) throw notRendered(`${value.path || '.'} is no text`)
  if (value === null) throw notRendered('nil is no text')
  if (isList(value)) throw notRendered('a list is no text: join it')
  return String(value)
}

function nothingThere ({ from }: Missing) {
  return notRendered(`there is no ${from}`)
}

function compare (name: string, a: Value | undefined, b: Value | undefined): number {
  const [left, right] = [a, b].map(value => value instanceof ForeignText ? value.text : value)
  if (typeof left === 'boolean' && typeof right === 'boolean' && (name === 'eq' || name === 'ne')) return left === right ? 0 : 1
  if (typeof left === 'string' && typeof right === 'string') return left < right ? -1 : left > right ? 1 : 0
  if (typeof left === 'number' && typeof right === 'number') return left - right
  throw notRendered(`${name} compares two texts or two numbers`)
}

function indexed (value: Value, key: Value): Value {
  const plain = key instanceof ForeignText ? key.text : key
  if (isList(value) && typeof plain === 'number') {
    if (plain >= 0 && plain < value.length) return value[plain] as Value
    throw notRendered(`a list of ${value.length} items has none with the number ${plain}`)
  }
  if (!(value instanceof Tree) || (typeof plain !== 'string' && typeof plain !== 'number')) {
    throw notRendered('index needs a map or a list, and a key')
  }
  // As in Go, the zero value.
  return memberOf(value, plain, from => new ForeignText('', from))
}

function length (value: Value): number {
  if (value instanceof Tree) return lengthOf(value)
  if (isList(value)) return value.length
  const text = value instanceof ForeignText ? value.text : value
  if (typeof text !== 'string') throw notRendered('len needs a text, a map or a list')
  return Buffer.byteLength(text)
}

/** By bytes, as in Go. */
function sliced (value: Value, from: Value | undefined = 0, to?: Value): Value {
  const text = value instanceof ForeignText ? value.text : value
  if (typeof text !== 'string') throw notRendered('slice needs a text')
  const bytes = Buffer.from(text)
  const end = to ?? bytes.length
  if (typeof from !== 'number' || typeof end !== 'number' || from < 0 || from > end || end > bytes.length) {
    throw notRendered(`slice goes beyond the ${bytes.length} bytes of its text`)
  }
  const cut = bytes.toString('utf8', from, end)
  return value instanceof ForeignText ? new ForeignText(cut, value.from) : cut
}

/** A space between two of which neither is a text. */
function printed (values: readonly Value[], admit: Admit): string {
  const isText = (value: Value | undefined) => typeof value === 'string' || value instanceof ForeignText
  return values.map((value, index) =>
    (index > 0 && !isText(value) && !isText(values[index - 1]) ? ' ' : '') + plainText(value, admit)).join('')
}

function formatted ([format, ...values]: readonly Value[], admit: Admit): string {
  if (typeof format !== 'string') throw notRendered('the first argument of printf must be a constant text')
  let used = 0
  const text = format.replace(/%(.?)/gs, (verb: string, letter: string) => {
    if (letter === '%') return '%'
    const value = values[used++]
    if (value === undefined) throw notRendered(`printf has no argument for ${verb}`)
    if (letter === 's' || letter === 'v') return plainText(value, admit)
    if (letter === 'd' && typeof value === 'number') return String(value)
    if (letter === 'q' && (typeof value === 'string' || value instanceof ForeignText)) return JSON.stringify(plainText(value, admit))
    throw notRendered(`printf cannot write this argument as ${verb}: offered are %s, %v, %d of a number, %q of a text and %%`)
  })
  if (used < values.length) throw notRendered('printf has more arguments than its format names')
  return text
}
