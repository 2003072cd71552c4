import type { YamlDocument, YamlProblem } from './yaml-text.ts'

type Place = readonly PropertyKey[]

const deepest = 32
const escapes: Readonly<Record<string, string>> = { n: '\n', t: '\t', r: '\r', '"': '"', '\\': '\\' }

/**
 * Reads HCL 1 as SPIRE's configuration files are written: `key = value`, blocks with or without labels, lists, maps, comments of three
 * kinds. A block with a label is a map in a map, as in HCL's JSON. Octal numbers (`0600`) are read as text. Strict: no key twice (a block
 * that is repeated is one), no heredocs, no interpolation.
 * @param name for messages
 * @returns one document, like `parseYaml`
 */
export function parseHcl (name: string, text: string): readonly YamlDocument[] | { readonly problems: readonly YamlProblem[] } {
  const reader = new HclReader(text)
  try {
    const raw = reader.readBody([], true)
    return [{ raw, where: path => `${name}:${reader.lineOf(path)}` }]
  } catch (error) {
    if (!(error instanceof HclError)) throw error
    return { problems: [{ where: `${name}:${reader.lineAt(error.offset)}`, rule: error.message }] }
  }
}

class HclError extends Error {
  readonly offset: number
  constructor (rule: string, offset: number) {
    super(rule)
    this.offset = offset
  }
}

class HclReader {
  readonly #text: string
  readonly #places = new Map<string, number>()
  #at = 0

  constructor (text: string) { this.#text = text }

  /** Keys and values up to the closing brace, or of the whole text. */
  readBody (path: Place, isWhole: boolean): Record<string, unknown> {
    if (path.length > deepest) throw new HclError('nested too deeply', this.#at)
    const body = Object.create(null) as Record<string, unknown>
    for (;;) {
      this.#skipBlank()
      if (this.#at >= this.#text.length) {
        if (isWhole) return body
        throw new HclError('a block has no end', this.#at)
      }
      if (!isWhole && this.#take('}')) return body
      this.#readItem(body, path)
      // Items end with their line; in maps a comma may stand between them.
      this.#skipBlank()
      this.#take(',')
    }
  }

  /** Of the deepest part of the path that has a place. */
  lineOf (path: Place): number {
    for (let end = path.length; end > 0; end--) {
      const offset = this.#places.get(keyOf(path.slice(0, end)))
      if (offset !== undefined) return this.lineAt(offset)
    }
    return 1
  }

  lineAt (offset: number): number { return this.#text.slice(0, offset).split('\n').length }

  #readItem (body: Record<string, unknown>, path: Place): void {
    const start = this.#at
    const key = this.#readKey()
    const inside = [...path, key]
    this.#skipBlank()
    if (this.#take('=')) {
      this.#define(body, key, inside, start)
      body[key] = this.#readValue(inside)
      return
    }
    const next = this.#text[this.#at]
    if (next === '"') {
      // A label: the block of each label is a key of one map.
      if (!Object.hasOwn(body, key)) this.#define(body, key, inside, start)
      const labels = body[key] ??= Object.create(null) as unknown
      if (!isLabelled(labels)) throw new HclError('the same key twice in one map', start)
      this.#readItem(labels, inside)
      return
    }
    if (next !== '{') throw new HclError('a key is followed by neither = nor a block', start)
    this.#define(body, key, inside, start)
    this.#at++
    body[key] = this.readBody(inside, false)
  }

  #define (body: Record<string, unknown>, key: string, path: Place, offset: number): void {
    if (Object.hasOwn(body, key)) throw new HclError('the same key twice in one map', offset)
    this.#places.set(keyOf(path), offset)
    body[key] = undefined
  }

  #readKey (): string {
    if (this.#text[this.#at] === '"') return this.#readString()
    const word = this.#match(/[A-Za-z_][\w.-]*/y)
    if (word === undefined) throw new HclError('expected a key', this.#at)
    return word
  }

  #readValue (path: Place): unknown {
    this.#skipBlank()
    const start = this.#at
    if (this.#text[start] === '"') return this.#readString()
    if (this.#take('[')) return this.#readList(path)
    if (this.#take('{')) return this.readBody(path, false)
    const word = this.#match(/[^\s,\]}#]+/y) ?? ''
    if (word === 'true' || word === 'false') return word === 'true'
    if (/^-?(?:0|[1-9]\d{0,14})(?:\.\d{1,15})?$/.test(word)) return Number(word)
    // Octal, as only modes of files are written: left as text, since in YAML and JSON the same digits would be another number.
    if (/^0[0-7]{1,6}$/.test(word)) return word
    if (word.startsWith('<<')) throw new HclError('heredocs are not read: write the text in quotes', start)
    throw new HclError('a value is no text in quotes, number, true, false, list or map', start)
  }

  #readList (path: Place): unknown[] {
    if (path.length > deepest) throw new HclError('nested too deeply', this.#at)
    const list: unknown[] = []
    for (;;) {
      this.#skipBlank()
      if (this.#take(']')) return list
      this.#places.set(keyOf([...path, list.length]), this.#at)
      list.push(this.#readValue([...path, list.length]))
      this.#skipBlank()
      if (!this.#take(',') && this.#text[this.#at] !== ']') throw new HclError('expected a comma or the end of the list', this.#at)
    }
  }

  #readString (): string {
    const start = this.#at++
    let value = ''
    for (;;) {
      const next = this.#text[this.#at++]
      if (next === undefined || next === '\n') throw new HclError('a text has no closing quote', start)
      if (next === '"') return value
      if (next === '$' && this.#text[this.#at] === '{') throw new HclError('${…} is not replaced here: see -expandEnv', start)
      const escape = next === '\\' ? escapes[this.#text[this.#at++] ?? ''] : next
      if (escape === undefined) throw new HclError('a text has an unknown escape', start)
      value += escape
    }
  }

  #skipBlank (): void {
    for (;;) {
      if (this.#match(/(?:\s+|#[^\n]*|\/\/[^\n]*)/y) !== undefined) continue
      if (!this.#text.startsWith('/*', this.#at)) return
      const end = this.#text.indexOf('*/', this.#at + 2)
      if (end < 0) throw new HclError('a comment has no end', this.#at)
      this.#at = end + 2
    }
  }

  #take (character: string): boolean {
    if (this.#text[this.#at] !== character) return false
    this.#at++
    return true
  }

  #match (pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at
    const word = pattern.exec(this.#text)?.[0]
    this.#at += word?.length ?? 0
    return word
  }
}

/** Names of keys may hold anything, so that a separator would not do. */
function keyOf (path: Place): string { return JSON.stringify(path) }

function isLabelled (value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
