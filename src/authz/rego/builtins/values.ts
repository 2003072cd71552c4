import { randomInt, randomUUID } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { isArray, isObject, isSet, type RegoObject, type RegoValue } from '../rego-value.ts'
import { applyPatch } from './json-patch.ts'
import { NoValue, arrayOf, integerOf, numberOf, objectOf, textOf, toInteger, type Builtin } from './operand.ts'

const maxRange = 100_000

export const valueBuiltins: Readonly<Record<string, Builtin>> = {
  'json.patch': ([document, patches]) => applyPatch(document as RegoValue, arrayOf(patches).map(objectOf)),
  'object.subset': ([whole, part]) => isSubset(whole as RegoValue, part as RegoValue),
  'numbers.range_step': ([from, to, step]) => {
    const [first, last, by] = [integerOf(from), integerOf(to), integerOf(step)]
    if (by <= 0n) throw new NoValue()
    const direction = first <= last ? by : -by
    const count = (last - first) / direction + 1n
    if (count > maxRange) throw new Error(`numbers.range_step: more than ${maxRange} numbers`)
    return Array.from({ length: Number(count) }, (_, index) => toInteger(first + direction * BigInt(index)))
  },
  'semver.is_valid': ([text]) => typeof text === 'string' && parseSemver(text) !== undefined,
  'semver.compare': ([a, b]) => {
    const [left, right] = [parseSemver(textOf(a)), parseSemver(textOf(b))]
    if (left === undefined || right === undefined) throw new NoValue()
    return compareSemver(left, right)
  },
  'rand.intn': ([name, limit], { once }) => {
    const most = Math.abs(numberOf(limit))
    return remember(once, `rand.intn ${textOf(name)} ${most}`, () => most === 0 ? 0 : randomInt(Math.min(most, 2 ** 48 - 1)))
  },
  'uuid.rfc4122': ([name], { once }) => remember(once, `uuid ${textOf(name)}`, () => randomUUID()),
  // No policy gets to see this process's environment and arguments.
  'opa.runtime': () => ({}),
  trace: () => true
}

function remember (once: Map<string, RegoValue>, name: string, make: () => RegoValue): RegoValue {
  const known = once.get(name)
  if (known !== undefined) return known
  const made = make()
  once.set(name, made)
  return made
}

function isSubset (whole: RegoValue, part: RegoValue): boolean {
  if (isObject(whole) && isObject(part)) return objectHas(whole, part)
  if (isSet(whole) && isSet(part)) return [...part].every(item => has(whole, item))
  if (isArray(whole) && isSet(part)) return [...part].every(item => has(whole, item))
  if (isArray(whole) && isArray(part)) {
    return whole.some((_, at) => at + part.length <= whole.length
      && part.every((item, index) => isDeepStrictEqual(whole[at + index], item)))
  }
  throw new NoValue()
}

function has (members: Iterable<RegoValue>,
  wanted: RegoValue): boolean { return [...members].some(member => isDeepStrictEqual(member, wanted)) }

function objectHas (whole: RegoObject, part: RegoObject): boolean {
  return Object.entries(part).every(([name, wanted]) => {
    if (!Object.hasOwn(whole, name)) return false
    const found = whole[name] as RegoValue
    if (isObject(found) && isObject(wanted)) return objectHas(found, wanted)
    if ((isSet(found) && isSet(wanted)) || (isArray(found) && isArray(wanted))) return isSubset(found, wanted)
    return isDeepStrictEqual(found, wanted)
  })
}

interface Semver { readonly numbers: readonly bigint[], readonly pre: readonly string[] }

/** Semantic Versioning 2.0.0 §2, §9 and §10. */
const semver = new RegExp([
  '^', String.raw`(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)`, String.raw`(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?`,
  String.raw`(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?`, '$'
].join(''))

function parseSemver (text: string): Semver | undefined {
  const match = semver.exec(text)
  if (match === null) return undefined
  return { numbers: match.slice(1, 4).map(BigInt), pre: match[4]?.split('.') ?? [] }
}

function compareSemver (a: Semver, b: Semver): -1 | 0 | 1 {
  for (const index of a.numbers.keys()) {
    if (a.numbers[index] !== b.numbers[index]) return a.numbers[index]! < b.numbers[index]! ? -1 : 1
  }
  if (a.pre.length === 0 || b.pre.length === 0) return a.pre.length === b.pre.length ? 0 : a.pre.length === 0 ? 1 : -1
  for (let index = 0; index < Math.max(a.pre.length, b.pre.length); index++) {
    const [left, right] = [a.pre[index], b.pre[index]]
    if (left === right) continue
    if (left === undefined || right === undefined) return left === undefined ? -1 : 1
    const numeric = [/^\d+$/.test(left), /^\d+$/.test(right)]
    if (numeric[0] !== numeric[1]) return numeric[0] ? -1 : 1
    return (numeric[0] ? BigInt(left) < BigInt(right) : left < right) ? -1 : 1
  }
  return 0
}
