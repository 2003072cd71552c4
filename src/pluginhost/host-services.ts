import { bind, type BoundService } from '../rpc/bound-service.ts'
import type { Bundle } from '../spiffe/bundle.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { parseSpiffeId, type SpiffeId } from '../spiffe/spiffe-id.ts'
import { encodeBundle } from '../wire/bundle-codec.ts'
import { agentStoreService } from '../wire/generated/host-agent-store.ts'
import { identityProviderService } from '../wire/generated/host-identity-provider.ts'

/** SPIRE's host service `AgentStore`: by it node attestors see to it that nobody attests twice by what counts once. */
export function agentStore (hasAttested: (id: SpiffeId) => Promise<boolean>): BoundService {
  return bind(agentStoreService, {
    async getAgentInfo ({ agentId }) {
      if (!await hasAttested(parseSpiffeId(agentId))) throw new SpiffeError('agent_not_found', `no agent ${agentId} has attested`)
      return { info: { agentId } }
    }
  })
}

export interface OwnIdentity {
  /** DER, leaf first. */
  readonly chain: readonly Uint8Array[]
  /** PKCS#8, DER. Secret. */
  readonly privateKey: Uint8Array
  /** The trust domain's. */
  readonly bundle: Bundle
}

/**
 * SPIRE's host service `IdentityProvider`: by it a server's plugins show themselves as the server, key included.
 * @param own `undefined` before there is one: plugins start first
 */
export function identityProvider (own: () => OwnIdentity | undefined): BoundService {
  return bind(identityProviderService, {
    async fetchX509Identity () {
      const identity = own()
      if (identity === undefined) throw new SpiffeError('server_initializing', 'the server has no identity yet')
      const { chain, privateKey, bundle } = identity
      return { identity: { certChain: chain, privateKey }, bundle: encodeBundle(bundle) }
    }
  })
}
