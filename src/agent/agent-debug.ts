import type { Bundle } from '../spiffe/bundle.ts'
import type { CallContext } from '../rpc/call.ts'
import { describeChain } from '../rpc/describe-chain.ts'
import type { Clock } from '../runtime/clock.ts'
import type { DebugHandlers } from '../wire/generated/agent-debug.ts'

export interface AgentDebugDeps {
  /** The agent's own, DER, leaf first; `undefined` until it has joined. */
  readonly chain: () => readonly Uint8Array[] | undefined
  readonly bundle: () => Bundle
  readonly svids: { readonly size: number }
  readonly jwts: { readonly size: number }
  /** Of entries whose SVIDs go to a store. */
  readonly storable: () => number
  /** `undefined` until there was one. */
  readonly lastSync: () => Date | undefined
  readonly clock: Clock
}

/** SPIRE's Debug API of the agent. Nothing here is secret; the answer is fresh each time. */
export function debugHandlers (deps: AgentDebugDeps): DebugHandlers<CallContext> {
  const { clock, svids, jwts } = deps
  const startedMs = clock.monotonicMs()
  return {
    async getInfo () {
      return {
        svidChain: describeChain(deps.chain() ?? [], deps.bundle(), clock.now()),
        uptime: Math.floor((clock.monotonicMs() - startedMs) / 1000),
        svidsCount: svids.size,
        cachedX509SvidsCount: svids.size,
        cachedJwtSvidsCount: jwts.size,
        cachedSvidstoreX509SvidsCount: deps.storable(),
        lastSyncSuccess: Math.floor((deps.lastSync()?.getTime() ?? 0) / 1000)
      }
    }
  }
}
