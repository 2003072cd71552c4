/**
 * A value of Rego. Objects have names only, as JSON has; an object with other keys is a `Map`. Integers that a double cannot hold are
 * `bigint`; other numbers are doubles, so that a decimal of more than 17 digits loses its tail.
 */
export type RegoValue =
  | null | boolean | string | number | bigint | readonly RegoValue[] | RegoObject | ReadonlySet<RegoValue> | ReadonlyMap<RegoValue,
    RegoValue>
export interface RegoObject { readonly [name: string]: RegoValue }

/** Reads what `opa_value_dump` prints: JSON, with sets (`{1,2}`, `set()`) and objects with keys of any type. */
export function parseRegoValue (text: string): RegoValue {
  // Most values are JSON that a double can hold, and then the engine's own parser is several times as fast.
  if (!/\d{16}|set\(/.test(text)) {
    try {
      return JSON.parse(text) as RegoValue
    } catch {
      // A set, or an object with keys that are no strings.
    }
  }
  return new Reader(text).read()
}

/** Prints a value as `opa_value_parse` reads it. */
export function printRegoValue (value: RegoValue): string {
  if (value === null || typeof value === 'boolean' || typeof value === 'bigint') return String(value)
  if (typeof value === 'string' || typeof value === 'number') return JSON.stringify(value)
  if (isArray(value)) return `[${value.map(printRegoValue).join(',')}]`
  if (value instanceof Set) return value.size === 0 ? 'set()' : `{${[...value].map(printRegoValue).join(',')}}`
  const members: Iterable<[RegoValue, RegoValue]> = value instanceof Map ? value : Object.entries(value)
  return `{${[...members].map(([key, member]) => `${printRegoValue(key)}:${printRegoValue(member)}`).join(',')}}`
}

export function isArray (value: RegoValue | undefined): value is readonly RegoValue[] { return Array.isArray(value) }

export function isObject (value: RegoValue | undefined): value is RegoObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Set) && !(value instanceof Map)
}

export function isSet (value: RegoValue | undefined): value is ReadonlySet<RegoValue> { return value instanceof Set }

class Reader {
  readonly #text: string
  #at = 0

  constructor (text: string) { this.#text = text }

  read (): RegoValue {
    const value = this.#value()
    if (this.#at !== this.#text.length) throw new Error(`a Rego value goes on at ${this.#at}`)
    return value
  }

  #value (): RegoValue {
    while (this.#text[this.#at] === ' ') this.#at++
    switch (this.#text[this.#at]) {
      case '"': return this.#string()
      case '[': return this.#list('[', ']', () => this.#value())
      case '{': return this.#braces()
      default: return this.#word()
    }
  }

  #braces (): RegoValue {
    if (this.#text.startsWith('{}', this.#at)) { this.#at += 2; return {} }
    let pairs = false
    const members = this.#list('{', '}', (): readonly [RegoValue, RegoValue] => {
      const key = this.#value()
      if (this.#text[this.#at] !== ':') return [key, null]
      pairs = true
      this.#at++
      return [key, this.#value()]
    })
    if (!pairs) return new Set(members.map(([key]) => key))
    if (members.every(([key]) => typeof key === 'string')) return Object.fromEntries(members) as RegoObject
    return new Map(members)
  }

  #list<T> (open: string, close: string, item: () => T): T[] {
    const items: T[] = []
    this.#expect(open)
    if (this.#text[this.#at] === close) { this.#at++; return items }
    for (;;) {
      items.push(item())
      if (this.#text[this.#at] === ',') { this.#at++; continue }
      this.#expect(close)
      return items
    }
  }

  #expect (character: string): void {
    if (this.#text[this.#at++] !== character) throw new Error(`a Rego value lacks ${character} at ${this.#at - 1}`)
  }

  #string (): string {
    return JSON.parse(this.#match(/"(?:[^"\\]|\\.)*"/sy)) as string
  }

  #word (): RegoValue {
    const word = this.#match(/set\(\)|true|false|null|-?[\d.]+(?:[eE][+-]?\d+)?/y)
    if (word === 'set()') return new Set()
    if (word === 'true' || word === 'false') return word === 'true'
    if (word === 'null') return null
    const number = Number(word)
    return /^-?\d+$/.test(word) && !Number.isSafeInteger(number) ? BigInt(word) : number
  }

  #match (form: RegExp): string {
    form.lastIndex = this.#at
    const [found] = form.exec(this.#text) ?? []
    if (found === undefined) throw new Error(`no Rego value at ${this.#at}`)
    this.#at += found.length
    return found
  }
}
