import { isIPv4, isIPv6, SocketAddress } from 'node:net'
import { SpiffeError } from './errors.ts'

declare const parsed: unique symbol
/** An IPv4 or IPv6 address of one host in its one spelling (RFC 5952); equality is string equality. */
export type IpAddress = string & { readonly [parsed]: 'IpAddress' }

/**
 * Reads the address of one host: not unspecified, no multicast or broadcast, no zone, no IPv4 address in IPv6's clothes. Upper case and
 * other spellings of an IPv6 address are taken and made one.
 * @param field what it is the address of, for the message
 * @throws {SpiffeError} `service_malformed`
 */
export function parseIpAddress (text: string, field: string): IpAddress {
  const rule = isIPv4(text) ? brokenIpv4(text) : isIPv6(text) ? brokenIpv6(canonical(text)) : 'is no IP address'
  if (rule !== undefined) throw new SpiffeError('service_malformed', `${field} ${rule}: ${JSON.stringify(text.slice(0, 60))}`)
  return (isIPv4(text) ? text : canonical(text)) as IpAddress
}

function canonical (text: string): string {
  return text.includes('%') ? text : new SocketAddress({ address: text, family: 'ipv6' }).address
}

function brokenIpv4 (text: string): string | undefined {
  const first = Number(text.slice(0, text.indexOf('.')))
  if (first === 0) return 'is unspecified'
  return first >= 224 ? 'is multicast, broadcast or reserved' : undefined
}

function brokenIpv6 (text: string): string | undefined {
  if (text.includes('%')) return 'has a zone'
  if (text === '::') return 'is unspecified'
  if (text.startsWith('ff')) return 'is multicast'
  return text.startsWith('::ffff:') ? 'is an IPv4 address in IPv6 form' : undefined
}
