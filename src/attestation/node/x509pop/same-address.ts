import { BlockList, isIPv6 } from 'node:net'

/**
 * Whether an address is one of a certificate's.
 * @param octets 4 or 16 of each
 * @param address as text; IPv4 may be mapped into IPv6, and IPv6 may stand in brackets
 */
export function isOneOfIts (octets: readonly Uint8Array[], address: string): boolean {
  const own = new BlockList()
  for (const one of octets) {
    if (one.length === 4) own.addAddress(one.join('.'), 'ipv4')
    else own.addAddress((Buffer.from(one).toString('hex').match(/.{4}/g) ?? []).join(':'), 'ipv6')
  }
  const bare = address.replace(/^\[(.*)\]$/, '$1').replace(/^::ffff:(?=\d+\.)/i, '')
  return own.check(bare, isIPv6(bare) ? 'ipv6' : 'ipv4')
}
