import { codeOf, SpiffeError } from '../spiffe/errors.ts'
import type { Selector } from '../spiffe/selector.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'
import type { JwtSvid, WorkloadIdentity } from '../spiffe/svid.ts'
import type { JwtCache, JwtSigner } from './jwt-cache.ts'
import type { NodeIdentities } from './node-identities.ts'

/** Satisfies what the Workload API and SDS each declare. */
export interface AgentIdentitySource {
  watch (selectors: readonly Selector[], signal: AbortSignal): AsyncIterable<WorkloadIdentity>
  fetchJwtSvids (
    selectors: readonly Selector[], audience: readonly string[], id: SpiffeId | undefined, signal: AbortSignal
  ): Promise<readonly JwtSvid[]>
}

export function identitySource (identities: NodeIdentities, jwts: JwtCache, signer: JwtSigner): AgentIdentitySource {
  return {
    watch: (selectors, signal) => identities.watch(selectors, signal),
    async fetchJwtSvids (selectors, audience, id, signal) {
      if (!identities.synced) throw new SpiffeError('server_initializing', 'the agent does not know its entries yet')
      const entries = identities.entriesFor(selectors).filter(entry => id === undefined || entry.spiffeId === id)
      const fetched = await Promise.all(entries.map(entry => jwts.fetch(entry, audience, signer, signal).catch(withdrawn)))
      const svids = fetched.filter(svid => svid !== undefined)
      if (svids.length === 0) throw new SpiffeError('no_identity_issued', 'no identity issued')
      return svids
    }
  }
}

/** The server took the entry away and this node has not heard of it yet: the workload has lost that identity (WLAPI-24). */
function withdrawn (error: unknown): undefined {
  if (codeOf(error) !== 'entry_not_authorized') throw error
}
