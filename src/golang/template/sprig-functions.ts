import { boundedMatches } from '../bounded-matches.ts'
import { expandReplacement, GoRegexpError } from '../go-regexp.ts'
import { sprigTextFunctions, isEmpty, madeOf, numberOf, printedOf, taking, textOf } from './sprig-text.ts'
import { goFunctions, plainText, type TemplateFunction, type TemplateFunctions } from './template-functions.ts'
import { ForeignText, isList, notRendered, Tree, type Value } from './template-values.ts'

/** Items; no ID has that many parts. */
const maxItems = 2_048

const onList = (apply: (list: readonly Value[]) => Value) => taking(1, list => apply(listOf(list)))

const listFunctions: Readonly<Record<string, TemplateFunction>> = {
  list: { least: 0, most: 32, apply: values => values },
  tuple: { least: 0, most: 32, apply: values => values },
  splitList: taking(2, (separator, value) => limited(parts(textOf(separator), textOf(value)).map(text => madeOf([value], text)))),
  // Each item by itself: what separates them may begin a path segment, and they may not.
  join: {
    least: 2, most: 2,
    apply: ([separator, list], admit) => listOf(list).map(item => plainText(item, admit)).join(textOf(separator))
  },
  toStrings: onList(list => list.map(item => madeOf([item], printedOf(item)))),
  sortAlpha: onList(list => list.map(item => madeOf([item], printedOf(item)))
    .toSorted((a, b) => Buffer.compare(Buffer.from(textOf(a)), Buffer.from(textOf(b))))),
  compact: onList(list => list.filter(item => !isEmpty(item))),
  first: onList(list => list[0] ?? null),
  last: onList(list => list.at(-1) ?? null),
  rest: onList(list => list.slice(1)),
  initial: onList(list => list.slice(0, -1)),
  reverse: onList(list => list.toReversed()),
  uniq: onList(list => list.filter((item, index) => list.findIndex(other => same(item, other)) === index)),
  append: taking(2, (list, item) => limited([...listOf(list), item])),
  prepend: taking(2, (list, item) => limited([item, ...listOf(list)])),
  concat: { least: 0, most: 32, apply: lists => limited(lists.flatMap(list => listOf(list))) },
  without: { least: 1, most: 32, apply: ([list, ...gone]) => listOf(list).filter(item => !gone.some(one => same(one, item))) },
  has: taking(2, (item, list) => listOf(list).some(one => same(one, item))),
  slice: {
    least: 1, most: 3,
    apply (values, admit) {
      const [sliced, from = 0, to] = values
      if (!isList(sliced) && !(sliced instanceof Tree)) return goSlice.apply(values, admit)
      const list = listOf(sliced)
      const [begin, end] = [numberOf(from), to === undefined ? list.length : numberOf(to)]
      if (begin < 0 || begin > end || end > list.length) throw notRendered(`slice goes beyond the ${list.length} items of its list`)
      return list.slice(begin, end)
    }
  }
}
const goSlice = goFunctions.offered.get('slice') as TemplateFunction

const regexFunctions: Readonly<Record<string, TemplateFunction>> = {
  regexMatch: taking(2, (pattern, text) => found(pattern, text).length > 0),
  regexFind: taking(2, (pattern, text) => madeOf([text], found(pattern, text)[0]?.[0] ?? '')),
  regexFindAll: taking(3, (pattern, text, count) =>
    limited(atMost(found(pattern, text), numberOf(count)).map(([match]) => madeOf([text], match)))),
  regexReplaceAll: taking(3, (pattern, text, by) => replaced(pattern, text, by, match => expandReplacement(textOf(by), match))),
  regexReplaceAllLiteral: taking(3, (pattern, text, by) => replaced(pattern, text, by, () => textOf(by))),
  regexQuoteMeta: taking(1, text => madeOf([text], textOf(text).replaceAll(/[\\.+*?()|[\]{}^$]/g, String.raw`\$&`)))
}

/** What SPIRE's programs have of Sprig, as far as it is offered; the forms with `must` are the same here, as all of them refuse. */
export const spireFunctions: TemplateFunctions = {
  offered: withMust({ ...Object.fromEntries(goFunctions.offered), ...sprigTextFunctions, ...listFunctions, ...regexFunctions }),
  refused: new Set([
    ...goFunctions.refused, 'initials', 'swapcase', 'snakecase', 'camelcase', 'kebabcase', 'wrap', 'wrapWith', 'seq', 'b32enc', 'b32dec',
    'dict', 'get', 'set', 'unset', 'hasKey', 'pluck', 'keys', 'pick', 'omit', 'merge', 'mergeOverwrite', 'mustMerge', 'mustMergeOverwrite',
    'values', 'dig', 'chunk', 'mustChunk', 'uuidv4', 'regexSplit', 'mustRegexSplit', 'urlParse', 'urlJoin'
  ])
}

function withMust (functions: Readonly<Record<string, TemplateFunction>>): ReadonlyMap<string, TemplateFunction> {
  const must = (name: string) => [`must${name.charAt(0).toUpperCase()}${name.slice(1)}`, functions[name] as TemplateFunction] as const
  const strict = [
    'compact', 'first', 'last', 'rest', 'initial', 'reverse', 'uniq', 'append', 'prepend', 'without', 'has', 'slice', 'regexMatch',
    'regexFind', 'regexFindAll', 'regexReplaceAll', 'regexReplaceAllLiteral'
  ]
  const append = functions['append'] as TemplateFunction
  return new Map([...Object.entries(functions), ...strict.map(must), ['push', append], ['mustPush', append]])
}

/** @throws {SpiffeError} `template_not_rendered` */
function listOf (value: Value | undefined): readonly Value[] {
  if (isList(value)) return value
  if (value instanceof Tree && value.type.kind === 'list' && value.type.of.kind === 'text' && Array.isArray(value.raw)) {
    return limited(value.raw.map((item, index) => new ForeignText(String(item), `${value.path} ${index}`)))
  }
  throw notRendered('a function that needs a list was given something else')
}

function limited (list: readonly Value[]): readonly Value[] {
  if (list.length > maxItems) throw notRendered(`a list has more than ${maxItems} items`)
  return list
}

/** Of an empty separator, characters. */
function parts (separator: string, text: string): string[] { return separator === '' ? Array.from(text) : text.split(separator) }

function same (a: Value, b: Value): boolean {
  const [left, right] = [a, b].map(value => value instanceof ForeignText ? value.text : value)
  if (isList(left) && isList(right)) return left.length === right.length && left.every((item, index) => same(item, right[index] as Value))
  return left === right
}

function found (pattern: Value, text: Value): readonly RegExpExecArray[] {
  try {
    return boundedMatches(textOf(pattern), textOf(text))
  } catch (error) {
    if (error instanceof GoRegexpError) throw notRendered(`the regular expression ${JSON.stringify(textOf(pattern))}: ${error.message}`)
    throw error
  }
}

function atMost<T> (all: readonly T[], count: number): readonly T[] { return count < 0 ? all : all.slice(0, count) }

function replaced (pattern: Value, text: Value, by: Value, make: (match: RegExpExecArray) => string): Value {
  const whole = textOf(text)
  let at = 0
  let made = ''
  for (const match of found(pattern, text)) {
    made += whole.slice(at, match.index) + make(match)
    at = match.index + match[0].length
  }
  return madeOf([text, by], made + whole.slice(at))
}
