import { SpiffeError } from './errors.ts'

/** Integers that a double cannot hold are `bigint` (TS-04). */
export type JsonValue = null | boolean | string | number | bigint | readonly JsonValue[] | JsonObject
/** Without a prototype: `__proto__` and `constructor` are names like any other (TS-03). */
export interface JsonObject { readonly [name: string]: JsonValue }

export interface JsonLimits {
  /** Of the text: UTF-16 units of a string, bytes of an array. Default 4 Mi. */
  readonly maxLength?: number
  /** Nested arrays and objects. Default 32. */
  readonly maxDepth?: number
}

/** As long as a literal of the largest 64-bit integer or a double can usefully be. */
const maxNumberLength = 128

/**
 * Reads one JSON text (RFC 8259) and, unlike `JSON.parse`, refuses repeated names, lone surrogates, numbers beyond a
 * double's range, a byte order mark and invalid UTF-8.
 * @throws {SpiffeError} `json_malformed`, with the offset but never the content: the text may be secret
 */
export function parseStrictJson (input: string | Uint8Array, limits: JsonLimits = {}): JsonValue {
  if (input.length > (limits.maxLength ?? 4 * 1024 * 1024)) throw malformed('text is too long', 0)
  return new Reader(typeof input === 'string' ? input : decodeUtf8(input), limits.maxDepth ?? 32).readDocument()
}

/** Like `parseStrictJson`, for texts that must be an object. @throws {SpiffeError} `json_malformed` */
export function parseStrictJsonObject (input: string | Uint8Array, limits?: JsonLimits): JsonObject {
  const value = parseStrictJson(input, limits)
  if (!isJsonObject(value)) throw malformed('not an object', 0)
  return value
}

export function isJsonObject (value: JsonValue | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

class Reader {
  readonly #text: string
  readonly #maxDepth: number
  #at = 0

  constructor (text: string, maxDepth: number) {
    this.#text = text
    this.#maxDepth = maxDepth
  }

  readDocument (): JsonValue {
    if (!this.#text.isWellFormed()) throw malformed('lone surrogate', 0)
    const value = this.#readValue(0)
    if (this.#peek() !== '') throw malformed('text goes on after the value', this.#at)
    return value
  }

  #readValue (depth: number): JsonValue {
    if (depth > this.#maxDepth) throw malformed('nested too deeply', this.#at)
    switch (this.#peek()) {
      case '{': return this.#readObject(depth)
      case '[': return this.#readArray(depth)
      case '"': return this.#readString()
      case 't': return this.#readWord('true', true)
      case 'f': return this.#readWord('false', false)
      case 'n': return this.#readWord('null', null)
      default: return this.#readNumber()
    }
  }

  #readObject (depth: number): JsonObject {
    const object = Object.create(null) as Record<string, JsonValue>
    this.#at++
    if (this.#take('}')) return object
    do {
      if (this.#peek() !== '"') throw malformed('expected a name', this.#at)
      const start = this.#at
      const name = this.#readString()
      if (name in object) throw malformed('repeated name', start)
      if (!this.#take(':')) throw malformed('expected a colon', this.#at)
      object[name] = this.#readValue(depth + 1)
    } while (this.#take(','))
    if (!this.#take('}')) throw malformed('expected a comma or the end of the object', this.#at)
    return object
  }

  #readArray (depth: number): JsonValue[] {
    const array: JsonValue[] = []
    this.#at++
    if (this.#take(']')) return array
    do array.push(this.#readValue(depth + 1)); while (this.#take(','))
    if (!this.#take(']')) throw malformed('expected a comma or the end of the array', this.#at)
    return array
  }

  #readString (): string {
    const start = this.#at
    // Up to the next quote that an even number of backslashes precedes.
    let end = start
    do {
      end = this.#text.indexOf('"', end + 1)
      if (end < 0) throw malformed('string without end', start)
    } while (isEscaped(this.#text, end))
    this.#at = end + 1
    const body = this.#text.slice(start + 1, end)
    if (hasControlCharacter(body)) throw malformed('control character in a string', start)
    if (!body.includes('\\')) return body
    const value = unescape(body, start)
    if (!value.isWellFormed()) throw malformed('lone surrogate', start)
    return value
  }

  #readNumber (): number | bigint {
    const literal = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/y
    literal.lastIndex = this.#at
    const match = literal.exec(this.#text)
    if (match === null) throw malformed('expected a value', this.#at)
    if (match[0].length > maxNumberLength) throw malformed('number is too long', this.#at)
    const value = Number(match[0])
    if (!Number.isFinite(value)) throw malformed('number is out of range', this.#at)
    this.#at += match[0].length
    const isInteger = match[1] === undefined && match[2] === undefined
    return isInteger && !Number.isSafeInteger(value) ? BigInt(match[0]) : value
  }

  #readWord<T> (word: string, value: T): T {
    if (!this.#text.startsWith(word, this.#at)) throw malformed('expected a value', this.#at)
    this.#at += word.length
    return value
  }

  /** The next character that is not white space, or the empty string at the end. */
  #peek (): string {
    for (;;) {
      const code = this.#text.charCodeAt(this.#at)
      if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return this.#text.charAt(this.#at)
      this.#at++
    }
  }

  #take (character: string): boolean {
    if (this.#peek() !== character) return false
    this.#at++
    return true
  }
}

function isEscaped (text: string, at: number): boolean {
  let backslashes = 0
  while (text.charCodeAt(at - 1 - backslashes) === 0x5c) backslashes++
  return backslashes % 2 === 1
}

/** @param body between quotes that it does not hold itself, so that `JSON.parse` can see nothing but one string */
function unescape (body: string, start: number): string {
  try {
    return JSON.parse(`"${body}"`) as string
  } catch {
    throw malformed('unknown escape', start)
  }
}

function hasControlCharacter (text: string): boolean {
  for (let at = 0; at < text.length; at++) if (text.charCodeAt(at) < 0x20) return true
  return false
}

function decodeUtf8 (bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch (error) {
    throw new SpiffeError('json_malformed', 'text is not UTF-8', { cause: error })
  }
}

function malformed (rule: string, offset: number): SpiffeError {
  return new SpiffeError('json_malformed', `malformed JSON at offset ${offset}: ${rule}`)
}
