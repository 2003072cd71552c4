import { asideKinds, documentsIn, kindOf, type PolicyText } from '../policy/read-policies.ts'

/** What became of one policy document. */
export interface DocumentChange {
  /** Its kind and its name, or what stands for one: `Policy shop`, `FederationScope partner.example`, `Settings`. */
  readonly document: string
  readonly change: 'added' | 'removed' | 'changed'
  /** What differs inside of one that is changed. */
  readonly values: readonly ValueChange[]
}

export interface ValueChange {
  /** Names, of members of a list too where these have some, else their positions: `rules.web-reads.to.0.paths`. */
  readonly path: string
  /** Absent where there was nothing; `after` where nothing is. */
  readonly before?: unknown
  readonly after?: unknown
}

/**
 * Compares policies as they are written, whatever becomes of requests: settings, federation and Rego among them. What decides nothing
 * (tests, signatures, the order of values) does not count.
 * @throws {SpiffeError} `policy_malformed`
 */
export function compareDocuments (before: readonly PolicyText[], after: readonly PolicyText[]): readonly DocumentChange[] {
  const [old, now] = [byName(before), byName(after)]
  return [...new Set([...old.keys(), ...now.keys()])].toSorted().flatMap((document): DocumentChange[] => {
    if (!old.has(document)) return [{ document, change: 'added', values: [] }]
    if (!now.has(document)) return [{ document, change: 'removed', values: [] }]
    const values = differences('', old.get(document), now.get(document))
    return values.length === 0 ? [] : [{ document, change: 'changed', values }]
  })
}

function byName (texts: readonly PolicyText[]): ReadonlyMap<string, unknown> {
  const found = new Map<string, unknown>()
  for (const { raw } of texts.flatMap(text => documentsIn(text))) {
    if (asideKinds.some(kind => kind === kindOf(raw))) continue
    const name = nameOf(raw)
    let free = name
    for (let i = 2; found.has(free); i++) free = `${name} (${i})`
    found.set(free, raw)
  }
  return found
}

function nameOf (raw: unknown): string {
  const { kind, name, trustDomain, metadata } = fieldsOf(raw)
  const { namespace, name: inside } = fieldsOf(metadata)
  // There is one of them, and it may come to be of another trust domain.
  const own = kind === 'Settings' ? [] : [[name], [trustDomain], [namespace, inside]].map(textsIn).find(({ length }) => length > 0) ?? []
  return [...textsIn([kind]), own.join('/')].filter(part => part !== '').join(' ')
}

function textsIn (values: readonly unknown[]): string[] { return values.filter(value => typeof value === 'string') }

function fieldsOf (value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? value as Record<string, unknown> : {}
}

function differences (path: string, before: unknown, after: unknown): ValueChange[] {
  if (textOf(before) === textOf(after)) return []
  if (Array.isArray(before) && Array.isArray(after)) return ofLists(path, before, after)
  if (!isObject(before) || !isObject(after)) {
    return [{ path, ...before === undefined ? {} : { before }, ...after === undefined ? {} : { after } }]
  }
  const keys = [...new Set([...Object.keys(before), ...Object.keys(after)])]
  return keys.flatMap(key => differences(path === '' ? key : `${path}.${key}`, before[key], after[key]))
}

function ofLists (path: string, before: readonly unknown[], after: readonly unknown[]): ValueChange[] {
  const [old, now] = [named(before), named(after)]
  if (old === undefined || now === undefined) {
    if ([...before, ...after].some(isObject)) return differences(path, byPosition(before), byPosition(after))
    const without = (list: readonly unknown[], others: readonly unknown[]) => list.filter(one => !others.includes(one))
    const [gone, come] = [without(before, after), without(after, before)]
    return [...gone.map(member => ({ path, before: member })), ...come.map(member => ({ path, after: member }))]
  }
  const names = [...new Set([...old.keys(), ...now.keys()])]
  const [was, is] = [[...old.keys()].filter(name => now.has(name)), [...now.keys()].filter(name => old.has(name))]
  return [
    ...names.flatMap(name => differences(`${path}.${name}`, old.get(name), now.get(name))),
    // The first of several rules that apply is the one that is named.
    ...textOf(was) === textOf(is) ? [] : [{ path: `${path} (order)`, before: was, after: is }]
  ]
}

function byPosition (list: readonly unknown[]): Readonly<Record<string, unknown>> {
  return Object.fromEntries(list.map((member, i) => [`${i}`, member]))
}

/** Members by their names, if each has one of its own. */
function named (list: readonly unknown[]): ReadonlyMap<string, unknown> | undefined {
  const members = new Map(list.map(one => [fieldsOf(one)['name'], one]))
  const isNamed = members.size === list.length && [...members.keys()].every(name => typeof name === 'string')
  return isNamed ? members as Map<string, unknown> : undefined
}

function isObject (value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The same for the same value, in whatever order its keys are. */
function textOf (value: unknown): string | undefined {
  return JSON.stringify(value, (_, inner: unknown) => isObject(inner)
    ? Object.fromEntries(Object.entries(inner).toSorted(([a], [b]) => a < b ? -1 : 1)) : inner)
}
