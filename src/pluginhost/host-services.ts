import { bind, type BoundService } from '../rpc/bound-service.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { parseSpiffeId, type SpiffeId } from '../spiffe/spiffe-id.ts'
import { agentStoreService } from '../wire/generated/host-agent-store.ts'

/** SPIRE's host service `AgentStore`: by it node attestors see to it that nobody attests twice by what counts once. */
export function agentStore (hasAttested: (id: SpiffeId) => Promise<boolean>): BoundService {
  return bind(agentStoreService, {
    async getAgentInfo ({ agentId }) {
      if (!await hasAttested(parseSpiffeId(agentId))) throw new SpiffeError('agent_not_found', `no agent ${agentId} has attested`)
      return { info: { agentId } }
    }
  })
}
