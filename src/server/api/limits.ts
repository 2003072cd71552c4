import type { Clock } from '../../runtime/clock.ts'
import { timed, type Took } from '../../runtime/took.ts'
import type { CallContext } from '../../rpc/call.ts'
import { RateLimiter } from '../rate-limit.ts'

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
  const limiter = (perSecond: number, enabled: boolean) => {
    const limiter = new RateLimiter(perSecond, clock)
    return async ({ method, caller, signal }: CallContext, count: number) => {
      await timed(clock, tell && ((took: Took) => tell(method, took)), async () => {
        if (enabled && caller.kind === 'tls') await limiter.take(hostOf(caller.address), count, signal)
      })
    }
  }
  return {
    attestation: limiter(1, switches.attestation),
    signing: limiter(500, switches.signing),
    jwt: limiter(500, switches.signing),
    status: limiter(10, true),
    publish: limiter(500, true)
  }
}

/** A client's ports differ from call to call. */
export function hostOf (address: string): string {
  return address.replace(/:\d+$/, '')
}
