import { isIPv6 } from 'node:net'

/** So often may one address ask: a burst, refilled evenly. */
export interface AddressRate { readonly burst: number, readonly perSecond: number }

interface Bucket { tokens: number, filledAtMs: number }

const mostAddresses = 10_000

/** A token bucket for each address; of IPv6, for each network of 64 bits, since one machine has that many. */
export class AddressRates {
  readonly #rate: AddressRate
  readonly #buckets = new Map<string, Bucket>()

  constructor (rate: AddressRate) { this.#rate = rate }

  /** Takes one if there is one. */
  take (address: string, nowMs: number): boolean {
    const { burst, perSecond } = this.#rate
    const key = networkOf(address)
    const bucket = this.#buckets.get(key) ?? { tokens: burst, filledAtMs: nowMs }
    bucket.tokens = Math.min(burst, bucket.tokens + (nowMs - bucket.filledAtMs) / 1000 * perSecond)
    bucket.filledAtMs = nowMs
    // Last in the map is who asked last.
    this.#buckets.delete(key)
    this.#buckets.set(key, bucket)
    if (this.#buckets.size > mostAddresses) this.#buckets.delete(this.#buckets.keys().next().value as string)
    if (bucket.tokens < 1) return false
    bucket.tokens--
    return true
  }
}

/** What one client is counted under. */
export function networkOf (address: string): string {
  const [, ipv4] = /^::ffff:([0-9.]+)$/.exec(address) ?? []
  if (ipv4 !== undefined || !isIPv6(address)) return ipv4 ?? address
  const [head = '', tail] = address.replace(/%.*$/, '').split('::')
  const before = head === '' ? [] : head.split(':')
  const after = tail === undefined || tail === '' ? [] : tail.split(':')
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - before.length - after.length)
  return [...before, ...Array.from({ length: zeros }, () => '0'), ...after].slice(0, 4).join(':')
}
