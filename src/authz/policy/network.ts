import { BlockList, isIP } from 'node:net'
import type { Network } from './match.ts'

/** Reads an address or `address/bits`; `undefined` when it is neither. Bits beyond the mask must be zero: a slip would open more. */
export function parseNetwork (text: string): Network | undefined {
  const [address = '', bits, ...rest] = text.split('/')
  const family = isIP(address)
  if (family === 0 || rest.length > 0 || address.includes('%')) return undefined
  const type = family === 4 ? 'ipv4' : 'ipv6'
  const most = family === 4 ? 32 : 128
  if (bits !== undefined && (!/^(0|[1-9][0-9]{0,2})$/.test(bits) || Number(bits) > most)) return undefined
  const length = bits === undefined ? most : Number(bits)
  if (hasBitsBelow(address, family, length)) return undefined
  const addresses = new BlockList()
  addresses.addSubnet(address, length, type)
  return { text: `${address}/${length}`, addresses }
}

function hasBitsBelow (address: string, family: number, length: number): boolean {
  const bytes = family === 4 ? address.split('.').map(Number) : ipv6Bytes(address)
  return bytes.some((byte, i) => (byte & (0xff >> Math.max(0, Math.min(8, length - i * 8)))) !== 0)
}

function ipv6Bytes (address: string): number[] {
  const dotted = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(address)
  const [, start, a, b, c, d] = dotted ?? []
  const pair = (high: string | undefined, low: string | undefined) => (Number(high) * 256 + Number(low)).toString(16)
  const text = start === undefined ? address : `${start}${pair(a, b)}:${pair(c, d)}`
  const [left = '', right] = text.split('::')
  const words = (part: string) => part === '' ? [] : part.split(':').map(word => Number.parseInt(word, 16))
  const head = words(left)
  const tail = right === undefined ? [] : words(right)
  const all = [...head, ...Array.from({ length: 8 - head.length - tail.length }, () => 0), ...tail]
  return all.flatMap(word => [word >> 8, word & 0xff])
}
