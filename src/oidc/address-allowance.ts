import { isIPv6 } from 'node:net'

export interface AddressAllowanceOptions {
  /** On average. */
  readonly perSecond: number
  /** At once, after a pause. */
  readonly burst: number
}

interface Bucket { left: number, atMs: number }

/** Whoever uses more addresses than this pushes others' memory out, and could as well use them in turn. */
const mostAddresses = 16_384

/** How often each address may ask: IPv4 by address, IPv6 by its /64, which one machine has to itself. */
export class AddressAllowance {
  readonly #options: AddressAllowanceOptions
  readonly #buckets = new Map<string, Bucket>()

  constructor (options: AddressAllowanceOptions) { this.#options = options }

  /** @returns 0 when it may, else after how many seconds it may again */
  take (key: string, nowMs: number): number {
    const { perSecond, burst } = this.#options
    const known = this.#buckets.get(key)
    const left = known === undefined ? burst : Math.min(burst, known.left + (nowMs - known.atMs) / 1_000 * perSecond)
    const allowed = left >= 1
    // The oldest of all is the one that asked least recently.
    this.#buckets.delete(key)
    this.#buckets.set(key, { left: allowed ? left - 1 : left, atMs: nowMs })
    if (this.#buckets.size > mostAddresses) this.#buckets.delete(this.#buckets.keys().next().value as string)
    return allowed ? 0 : Math.max(1, Math.ceil((1 - left) / perSecond))
  }
}

/** Who counts as one caller. @param address as a socket tells it */
export function callerOf (address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1]
  if (mapped !== undefined || !isIPv6(address)) return mapped ?? address
  const [head = '', tail = ''] = (address.split('%')[0] as string).split('::')
  const [front, back] = [head, tail].map(part => part === '' ? [] : part.split(':')) as [string[], string[]]
  const zeros = Array<string>(Math.max(0, 8 - front.length - back.length)).fill('0')
  const groups = address.includes('::') ? [...front, ...zeros, ...back] : front
  return `${groups.slice(0, 4).map(group => Number.parseInt(group, 16).toString(16)).join(':')}::/64`
}
