import { isIPv4, isIPv6 } from 'node:net'
import { SpiffeError } from '../../spiffe/errors.ts'

export interface SocketAddress {
  /** IPv4 or IPv6 as text, without brackets and without a zone. */
  readonly address: string
  readonly port: number
}

/**
 * The bytes of an address: 4 or 16. IPv4 inside IPv6 (`::ffff:192.0.2.1`) counts as IPv4, which is what goes over the wire.
 * @throws {SpiffeError} `argument_invalid`
 */
export function addressBytes (text: string): Uint8Array {
  if (isIPv4(text)) return Uint8Array.from(text.split('.').map(Number))
  if (!isIPv6(text) || text.includes('%')) {
    throw new SpiffeError('argument_invalid', `${JSON.stringify(text)} is no IP address without a zone`)
  }
  const bytes = ipv6Bytes(text)
  return isMapped(bytes) ? bytes.slice(12) : bytes
}

export function sameBytes (a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index])
}

/** `::ffff:0:0/96` (RFC 4291 §2.5.5.2). */
export function isMapped (bytes: Uint8Array): boolean {
  return bytes.length === 16 && bytes.subarray(0, 10).every(byte => byte === 0) && bytes[10] === 0xff && bytes[11] === 0xff
}

function ipv6Bytes (text: string): Uint8Array {
  const [before = '', after] = text.split('::')
  const head = groupBytes(before)
  const tail = groupBytes(after ?? '')
  return Uint8Array.from([...head, ...Array<number>(16 - head.length - tail.length).fill(0), ...tail])
}

function groupBytes (text: string): number[] {
  return text.split(':').filter(group => group !== '').flatMap(group => {
    if (group.includes('.')) return group.split('.').map(Number)
    const value = Number.parseInt(group, 16)
    return [value >> 8, value & 0xff]
  })
}
