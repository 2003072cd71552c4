/** Of Unix sockets, which have no address: who may connect there, the file's mode says. */
export const noNetwork = ''

/**
 * Whom connections over the network are counted for: an IPv4 address, or the /64 of an IPv6 address, since one host may have all of it.
 * @param remoteAddress as the kernel writes it; `undefined` for a Unix socket
 */
export function peerNetwork (remoteAddress: string | undefined): string {
  if (remoteAddress === undefined) return noNetwork
  const address = remoteAddress.replace(/^::ffff:(?=\d+\.)/, '').replace(/%.*$/, '')
  if (!address.includes(':')) return address
  const [before = [], after = []] = address.split('::').map(part => part === '' ? [] : part.split(':'))
  const zeros = Array.from({ length: Math.max(0, 8 - before.length - after.length) }, () => '0')
  const network = [...before, ...zeros, ...after].slice(0, 4).map(group => Number.parseInt(group, 16).toString(16))
  return `${network.join(':')}::/64`
}
