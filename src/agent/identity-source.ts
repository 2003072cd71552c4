import { codeOf, SpiffeError } from '../spiffe/errors.ts'
import type { Selector } from '../spiffe/selector.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'
import type { JwtSvid, WorkloadIdentity } from '../spiffe/svid.ts'
import type { JwtCache, JwtSigner } from './jwt-cache.ts'
import type { NodeIdentities } from './node-identities.ts'
import type { Scope } from './workload-view.ts'

/** Satisfies what the Workload API declares. SDS watches `NodeIdentities` itself: an Envoy had better wait than be refused. */
export interface AgentIdentitySource {
  watch (selectors: readonly Selector[], signal: AbortSignal): AsyncIterable<WorkloadIdentity>
  fetchJwtSvids (
    selectors: readonly Selector[], audience: readonly string[], id: SpiffeId | undefined, signal: AbortSignal
  ): Promise<readonly JwtSvid[]>
}

/** @param scope what callers may get: for others than themselves only what is `delegable` */
export function identitySource (
  identities: NodeIdentities, jwts: JwtCache, signer: JwtSigner, scope: Scope = 'all'
): AgentIdentitySource {
  return {
    async * watch (selectors, signal) {
      checkSynced(identities)
      yield * identities.watch(selectors, signal, scope)
    },
    async fetchJwtSvids (selectors, audience, id, signal) {
      checkSynced(identities)
      const entries = identities.entriesFor(selectors, scope).filter(entry => id === undefined || entry.spiffeId === id)
      const fetched = await Promise.all(entries.map(entry => jwts.fetch(entry, audience, signer, signal).catch(withdrawn)))
      const svids = fetched.filter(svid => svid !== undefined)
      if (svids.length === 0) throw new SpiffeError('no_identity_issued', 'no identity issued')
      return svids
    }
  }
}

/** Until its entries are known, the agent can say neither who a caller is nor that it is nobody: callers come back later (WLE-13). */
export function checkSynced ({ synced }: NodeIdentities): void {
  if (!synced) throw new SpiffeError('server_initializing', 'the agent does not know its entries yet', { requirement: 'WLE-13' })
}

/** The server took the entry away and this node has not heard of it yet: the workload has lost that identity (WLAPI-24). */
function withdrawn (error: unknown): undefined {
  if (codeOf(error) !== 'entry_not_authorized') throw error
}
