import type { CallContext } from '../../rpc/call.ts'
import { describeChain } from '../../rpc/describe-chain.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { Bundle } from '../../spiffe/bundle.ts'
import type { DebugHandlers } from '../../wire/generated/server-debug.ts'

export interface ServerDebugDeps {
  /** The server's own, DER, leaf first. */
  readonly chain: () => readonly Uint8Array[]
  readonly bundle: () => Bundle
  readonly agents: { readonly size: number }
  readonly registry: { readonly size: number }
  /** The own one included. */
  readonly countBundles: () => Promise<number>
  readonly clock: Clock
}

/** SPIRE's Debug API of the server (spire-surface §1.9). Nothing here is secret; the answer is fresh each time. */
export function debugHandlers ({ chain, bundle, agents, registry, countBundles, clock }: ServerDebugDeps): DebugHandlers<CallContext> {
  const startedMs = clock.monotonicMs()
  return {
    async getInfo () {
      return {
        svidChain: describeChain(chain(), bundle(), clock.now()),
        uptime: Math.floor((clock.monotonicMs() - startedMs) / 1000),
        agentsCount: agents.size,
        entriesCount: registry.size,
        federatedBundlesCount: await countBundles()
      }
    }
  }
}
