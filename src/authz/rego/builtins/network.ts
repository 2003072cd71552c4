import { isArray, isObject, isSet, type RegoValue } from '../rego-value.ts'
import { NoValue, membersOf, textOf, type Builtin } from './operand.ts'

/** A block of addresses; both ends are inside. */
interface Block { readonly bits: 32 | 128, readonly first: bigint, readonly last: bigint }

/** More addresses than a policy can use; OPA has no limit but its memory. */
const maxExpanded = 65_536

export const networkBuiltins: Readonly<Record<string, Builtin>> = {
  'net.cidr_is_valid': ([cidr]) => typeof cidr === 'string' && parseCidr(cidr) !== undefined,
  'net.cidr_expand': ([cidr]) => {
    const block = parseCidr(textOf(cidr))
    if (block === undefined) throw new NoValue()
    const count = block.last - block.first + 1n
    if (count > maxExpanded) throw new Error(`net.cidr_expand: ${textOf(cidr)} has more than ${maxExpanded} addresses`)
    return new Set(Array.from({ length: Number(count) }, (_, index) => printAddress(block.first + BigInt(index), block.bits)))
  },
  'net.cidr_merge': ([blocks]) => new Set(merge(membersOf(blocks).map(member => blockOf(textOf(member)))).flatMap(printBlocks)),
  'net.cidr_contains_matches': ([outer, inner]) => {
    const found = new Map<string, RegoValue>()
    for (const [outerKey, outerText] of keyed(outer)) {
      for (const [innerKey, innerText] of keyed(inner)) {
        if (contains(blockOf(outerText), blockOf(innerText))) found.set(JSON.stringify([outerKey, innerKey]), [outerKey, innerKey])
      }
    }
    return new Set(found.values())
  }
}

/** What a match is reported by: an array's index, an object's key, a set's member or the text itself. */
function keyed (value: RegoValue | undefined): ReadonlyArray<readonly [RegoValue, string]> {
  const first = (member: RegoValue) => textOf(isArray(member) ? member[0] : member)
  if (typeof value === 'string') return [[value, value]]
  if (isArray(value)) return value.map((member, index) => [index, first(member)])
  if (isSet(value)) return [...value].map(member => [member, first(member)])
  if (isObject(value)) return Object.entries(value).map(([key, member]) => [key, first(member)])
  throw new NoValue()
}

/** A CIDR, or an address, which is a block of one. */
function blockOf (text: string): Block {
  const block = parseCidr(text) ?? parseCidr(`${text}/${text.includes(':') ? 128 : 32}`)
  if (block === undefined) throw new NoValue()
  return block
}

function contains (outer: Block, inner: Block): boolean {
  return outer.bits === inner.bits && outer.first <= inner.first && inner.last <= outer.last
}

function parseCidr (text: string): Block | undefined {
  const match = /^([0-9a-f:.]+)\/(\d{1,3})$/i.exec(text)
  if (match === null || (match[2] as string).length > 1 && (match[2] as string).startsWith('0')) return undefined
  const address = parseAddress(match[1] as string)
  const length = Number(match[2])
  if (address === undefined || length > address.bits) return undefined
  const host = (1n << BigInt(address.bits - length)) - 1n
  const first = address.value & ~host
  return { bits: address.bits, first, last: first | host }
}

function parseAddress (text: string): { value: bigint, bits: 32 | 128 } | undefined {
  if (!text.includes(':')) {
    const value = parseV4(text)
    return value === undefined ? undefined : { value, bits: 32 }
  }
  const tail = /[^:]*\.[^:]*$/.exec(text)?.[0]
  const v4 = tail === undefined ? undefined : parseV4(tail)
  if (tail !== undefined && v4 === undefined) return undefined
  const groupsOfTail = v4 === undefined ? '' : `${(v4 >> 16n).toString(16)}:${(v4 & 0xffffn).toString(16)}`
  const plain = text.slice(0, text.length - (tail ?? '').length) + groupsOfTail
  const halves = plain.split('::')
  if (halves.length > 2) return undefined
  const [head = [], rest = []] = halves.map(half => half === '' ? [] : half.split(':'))
  const zeros = 8 - head.length - rest.length
  if (halves.length === 2 ? zeros < 1 : zeros !== 0) return undefined
  const groups = [...head, ...Array<string>(zeros).fill('0'), ...rest]
  if (!groups.every(group => /^[0-9a-f]{1,4}$/i.test(group))) return undefined
  return { value: groups.reduce((value, group) => value << 16n | BigInt(`0x${group}`), 0n), bits: 128 }
}

function parseV4 (text: string): bigint | undefined {
  const parts = text.split('.')
  if (parts.length !== 4 || !parts.every(part => /^(?:0|[1-9]\d{0,2})$/.test(part) && Number(part) < 256)) return undefined
  return parts.reduce((value, part) => value << 8n | BigInt(part), 0n)
}

function printAddress (value: bigint, bits: 32 | 128): string {
  if (bits === 32) return [24n, 16n, 8n, 0n].map(shift => String(value >> shift & 255n)).join('.')
  const groups = Array.from({ length: 8 }, (_, index) => (value >> BigInt(112 - 16 * index) & 0xffffn).toString(16))
  // The longest run of two zeros or more, the first of equals (RFC 5952 §4.2).
  const runs = [...groups.join(':').matchAll(/(?<![^:])0(?::0)+(?![^:])/g)].map(([run]) => run)
  const longest = runs.reduce((best, run) => run.length > best.length ? run : best, '')
  const text = groups.join(':')
  if (longest === '') return text
  const [before, after] = splitOnce(text, longest)
  return `${before.replace(/:$/, '')}::${after.replace(/^:/, '')}`
}

function splitOnce (text: string, part: string): [string, string] {
  const at = new RegExp(`(?<![^:])${part}(?![^:])`).exec(text)?.index ?? 0
  return [text.slice(0, at), text.slice(at + part.length)]
}

function merge (blocks: readonly Block[]): Block[] {
  const merged: Block[] = []
  for (const block of blocks.toSorted((a, b) => a.bits - b.bits || (a.first < b.first ? -1 : a.first > b.first ? 1 : 0))) {
    const last = merged.at(-1)
    if (last !== undefined && last.bits === block.bits && block.first <= last.last + 1n) {
      merged[merged.length - 1] = { ...last, last: block.last > last.last ? block.last : last.last }
    } else merged.push(block)
  }
  return merged
}

/** The fewest CIDRs that are the block. */
function printBlocks ({ bits, first, last }: Block): string[] {
  const printed: string[] = []
  for (let at = first; at <= last;) {
    let host = 0
    while (host < bits && (at >> BigInt(host) & 1n) === 0n && at + (1n << BigInt(host + 1)) - 1n <= last) host++
    printed.push(`${printAddress(at, bits)}/${bits - host}`)
    at += 1n << BigInt(host)
  }
  return printed
}
