import { SpiffeError } from '../../spiffe/errors.ts'
import type { FieldType } from './field-type.ts'

/** What a template works with. Plain texts are the template's own, or its program's; lists are made by functions. */
export type Value = string | number | boolean | null | ForeignText | Missing | Tree | readonly Value[]

/** A text that somebody else chose, such as a pod's label. */
export class ForeignText {
  readonly text: string
  /** e.g. `.PodMeta.Labels "app"` */
  readonly from: string

  constructor (text: string, from: string) {
    this.text = text
    this.from = from
  }
}

/** What a map does not have; no text, but false for `if`. */
export class Missing {
  readonly from: string
  constructor (from: string) { this.from = from }
}

/** A record, map or list of the data. */
export class Tree {
  readonly type: FieldType
  readonly raw: unknown
  /** How the template got here. */
  readonly path: string

  constructor (type: FieldType, raw: unknown, path: string) {
    this.type = type
    this.raw = raw
    this.path = path
  }
}

/** @throws {SpiffeError} `template_not_rendered` */
export function notRendered (rule: string): SpiffeError {
  return new SpiffeError('template_not_rendered', rule)
}

/** A value out of JSON; what is not there is Go's zero value. */
export function valueOf (type: FieldType, raw: unknown, path: string, trusted = false): Value {
  switch (type.kind) {
    case 'text': {
      const text = typeof raw === 'string' ? raw : ''
      return trusted ? text : new ForeignText(text, path)
    }
    case 'flag': return raw === true
    case 'number': return typeof raw === 'number' ? raw : 0
    default: return new Tree(type, raw, path)
  }
}

/** As Go has it: empty is false. */
export function isTrue (value: Value): boolean {
  if (value instanceof ForeignText) return value.text !== ''
  if (value instanceof Missing || value === null) return false
  if (isList(value)) return value.length > 0
  if (value instanceof Tree) return value.type.kind === 'record' || lengthOf(value) > 0
  return Boolean(value)
}

export function isList (value: Value | undefined): value is readonly Value[] { return Array.isArray(value) }

export function lengthOf ({ type, raw, path }: Tree): number {
  if (type.kind === 'list') return Array.isArray(raw) ? raw.length : 0
  if (type.kind === 'map') return Object.keys(raw ?? {}).length
  throw notRendered(`${path} has no length`)
}

/** One of a map or a list. @param fallback for a key that the map does not have */
export function memberOf ({ type, raw, path }: Tree, key: string | number, fallback: (from: string) => Value): Value {
  const from = `${path} ${JSON.stringify(key)}`
  if (type.kind === 'map' && typeof key === 'string') {
    const map = (raw ?? {}) as Readonly<Record<string, unknown>>
    return Object.hasOwn(map, key) ? new ForeignText(String(map[key]), from) : fallback(from)
  }
  if (type.kind === 'list' && typeof key === 'number') {
    const list = Array.isArray(raw) ? raw as readonly unknown[] : []
    if (key < 0 || key >= list.length) throw notRendered(`${path} has ${list.length} items, and none with the number ${key}`)
    return valueOf(type.of, list[key], from)
  }
  throw notRendered(`${path} has no item ${JSON.stringify(key)}`)
}
