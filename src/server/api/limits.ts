import type { Clock } from '../../runtime/clock.ts'
import { timed, type Took } from '../../runtime/took.ts'
import type { CallContext } from '../../rpc/call.ts'
import { RateLimiter } from '../rate-limit.ts'
import { saidFirstLater } from './said-first.ts'

/** The rates of spire-surface §1.2, per client address; calls over the local socket are not limited. */
export interface Limits {
  attestation (context: CallContext, count: number): Promise<void>
  signing (context: CallContext, count: number): Promise<void>
  jwt (context: CallContext, count: number): Promise<void>
  status (context: CallContext, count: number): Promise<void>
  /** Of JWT keys by nested servers. */
  publish (context: CallContext, count: number): Promise<void>
}

export interface LimitSwitches { readonly attestation: boolean, readonly signing: boolean }

/** @param tell of each call how long it waited, or how it was refused, also where limits are off; `method` as in `CallContext` */
export function createLimits (switches: LimitSwitches, clock: Clock, tell?: (method: string, took: Took) => void): Limits {
  const limiter = (perSecond: number, enabled: boolean, what: string) => {
    const words = { rate_limited: `rejecting request due to ${what} rate limiting: ` }
    const limiter = new RateLimiter(perSecond, clock)
    return async ({ method, caller, signal }: CallContext, count: number) => {
      await timed(clock, tell && ((took: Took) => tell(method, took)), async () => {
        if (!enabled || caller.kind !== 'tls') return
        await saidFirstLater(words, () => limiter.take(hostOf(caller.address), count, signal))
      })
    }
  }
  return {
    attestation: limiter(1, switches.attestation, 'attest agent'),
    signing: limiter(500, switches.signing, 'certificate signing'),
    jwt: limiter(500, switches.signing, 'JWT signing request'),
    status: limiter(10, true, 'post status'),
    publish: limiter(500, true, 'key publishing')
  }
}

/** A client's ports differ from call to call. */
export function hostOf (address: string): string {
  return address.replace(/:\d+$/, '')
}
