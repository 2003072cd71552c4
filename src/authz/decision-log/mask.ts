import type { RequestJson } from './request-json.ts'

/** What is not written down, by a JSON pointer (RFC 6901), e.g. `/input/http/headers/x-api-key` or `/input/http/claims/email`. */
export type MaskRule =
  | { readonly op: 'remove', readonly path: string }
  | { readonly op: 'upsert', readonly path: string, readonly value: string }

/** Whoever reads one of these can be its owner. */
const secretHeaders = ['authorization', 'proxy-authorization', 'cookie', 'set-cookie']

export interface Masked {
  readonly input: RequestJson
  /** Pointers of what was taken out. */
  readonly erased: readonly string[]
  /** Pointers of what was replaced. */
  readonly masked: readonly string[]
}

/** Takes out of a request what a log must not hold. Secret headers always, and the query, which no rule asks about. */
export class Mask {
  readonly #rules: ReadonlyArray<{ readonly keys: readonly string[], readonly pointer: string, readonly rule: MaskRule }>

  /** @throws {Error} for a path that is no pointer to a part of `/input` */
  constructor (rules: readonly MaskRule[]) {
    const always = secretHeaders.map((name): MaskRule => ({ op: 'remove', path: `/input/http/headers/${name}` }))
    this.#rules = [...always, ...rules].map(rule => {
      const keys = keysOf(rule.path)
      // As who decides again looks for it: names of headers may have been given in other letters.
      return { keys, pointer: `/input/${keys.map(key => key.replaceAll('~', '~0').replaceAll('/', '~1')).join('/')}`, rule }
    })
  }

  /** @param input changed in place; claims are copied where something in them changes */
  apply (input: RequestJson): Masked {
    const erased: string[] = []
    const masked: string[] = []
    const root = input as unknown as Record<string, unknown>
    const http = root['http'] as { path: string, headers: Record<string, string> } | undefined
    if (http !== undefined) {
      http.path = withoutQuery(http.path)
      // Envoy sends the request's line among the headers too.
      const line = http.headers[':path']
      if (line !== undefined) http.headers[':path'] = withoutQuery(line)
    }
    for (const { keys, pointer, rule } of this.#rules) {
      const parent = parentOf(root, keys)
      const key = keys.at(-1) as string
      if (parent === undefined || parent[key] === undefined) continue
      if (rule.op === 'remove') delete parent[key]
      else parent[key] = rule.value
      if (rule.op === 'remove') erased.push(pointer)
      else masked.push(pointer)
    }
    return { input, erased, masked }
  }
}

function withoutQuery (target: string): string { return target.replace(/\?.*$/s, '') }

/** Keys below `/input`; names of headers in lower case, as requests have them. */
function keysOf (pointer: string): string[] {
  const [empty, input, ...keys] = pointer.split('/').map(key => key.replaceAll('~1', '/').replaceAll('~0', '~'))
  const isHeader = keys[0] === 'http' && keys[1] === 'headers'
  if (empty !== '' || input !== 'input' || keys.length === 0 || keys.includes('__proto__') || keys[0] === 'time') {
    throw new Error(`${JSON.stringify(pointer)} is no part of a decision's input, such as /input/http/headers/x-api-key`)
  }
  return isHeader ? keys.map(key => key.toLowerCase()) : keys
}

/** The map that has the last key. Maps on the way are copied: those of claims belong to the request. */
function parentOf (root: Record<string, unknown>, keys: readonly string[]): Record<string, unknown> | undefined {
  let map = root
  for (const key of keys.slice(0, -1)) {
    const next = Object.hasOwn(map, key) ? map[key] : undefined
    if (typeof next !== 'object' || next === null || Array.isArray(next)) return undefined
    map = map[key] = { ...next }
  }
  return Object.hasOwn(map, keys.at(-1) as string) ? map : undefined
}
