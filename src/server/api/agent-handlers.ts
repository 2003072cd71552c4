import { randomUUID } from 'node:crypto'
import type { NodeVerifier } from '../../attestation/node/node-verifier.ts'
import type { CertificateAuthority, IssuedX509Svid } from '../../ca/certificate-authority.ts'
import { parseAgentId } from '../../spiffe/agent.ts'
import { plainEntry, type EntryDraft } from '../../spiffe/entry.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { checkWorkloadId } from '../../spiffe/member-id.ts'
import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { CallContext } from '../../rpc/call.ts'
import type { AgentStore } from '../../storage/agent-store.ts'
import type { JoinTokenStore } from '../../storage/join-token-store.ts'
import { encodeAgent } from '../../wire/agent-codec.ts'
import type { AgentHandlers, CreateJoinTokenRequest } from '../../wire/generated/server-agent.ts'
import type { SPIFFEID } from '../../wire/generated/types.ts'
import { decodeSpiffeId, spiffeIdText } from '../../wire/spiffe-id-codec.ts'
import { parseCertificateRequest } from '../../x509/certificate-request.ts'
import type { AgentDirectory } from '../agent-directory.ts'
import type { Authorizer } from '../authorize.ts'
import type { IssuanceRecorder } from '../issuance-recorder.ts'
import type { Registrations } from '../registrations.ts'
import { joinTokenAgentId } from '../join-token.ts'
import { attestAgent } from './attest-agent.ts'
import { encodeX509Svid } from './encode-svid.ts'
import { decodeAgentFilter } from './filters.ts'
import type { SigningQueue } from '../signing-queue.ts'
import type { Limits } from './limits.ts'
import { saidFirst, saidFirstLater } from './said-first.ts'

export interface AgentDeps {
  readonly trustDomain: TrustDomain
  readonly agentTtlSeconds: number
  /** Whether an agent's own ID is one of the selectors that attestation finds. */
  readonly agentIdAsSelector: boolean
  readonly authority: CertificateAuthority
  readonly signing: SigningQueue
  readonly recorder: IssuanceRecorder
  readonly agents: AgentStore
  readonly joinTokens: JoinTokenStore
  /** By the type that agents send. */
  readonly verifiers: ReadonlyMap<string, NodeVerifier>
  readonly registrations: Registrations
  /** In memory. */
  readonly directory: AgentDirectory
  readonly authorizer: Authorizer
  /** Brings the memory up to what the database says now. */
  readonly catchUp: () => Promise<void>
  readonly limits: Limits
  readonly clock: Clock
}

/** `spire.api.server.agent.v1.Agent` (spire-surface §1.3). */
export function agentHandlers (deps: AgentDeps): AgentHandlers<CallContext> {
  const { agents, authority, authorizer, registrations, signing, trustDomain } = deps
  const agentIdFrom = (id: SPIFFEID | undefined) => saidFirst('invalid agent ID: ', () => {
    if (id === undefined) throw new SpiffeError('agent_id_malformed', 'request must specify SPIFFE ID')
    return parseAgentId(spiffeIdText(id), trustDomain)
  })
  const readable = (context: CallContext) => authorizer.accessOf(context).filter<{ readonly id: SpiffeId }>('agents.read', objectOf)
  return {
    async countAgents ({ filter }, context) {
      return { count: await agents.count({ ...decodeAgentFilter(filter), keep: readable(context) }) }
    },

    async listAgents ({ filter, outputMask, pageSize, pageToken }, context) {
      const page = await agents.list({ ...decodeAgentFilter(filter), keep: readable(context) }, { size: pageSize, token: pageToken })
      return { agents: page.agents.map(agent => encodeAgent(agent, outputMask)), nextPageToken: page.nextPageToken }
    },

    async getAgent ({ id, outputMask }, context) {
      const agent = await agents.get(agentIdFrom(id))
      if (agent === undefined || readable(context)?.(agent) === false) throw new SpiffeError('agent_not_found', 'agent not found')
      return encodeAgent(agent, outputMask)
    },

    async deleteAgent ({ id }, context) {
      const agentId = agentIdFrom(id)
      authorizer.accessOf(context).require('agents.evict', objectOf({ id: agentId }))
      await registrations.evictAgent(agentId)
      context.log.info({ agent: agentId }, 'agent evicted')
      return {}
    },

    async banAgent ({ id }, context) {
      const agentId = agentIdFrom(id)
      authorizer.accessOf(context).require('agents.ban', objectOf({ id: agentId }))
      await registrations.banAgent(agentId)
      context.log.warn({ agent: agentId }, 'agent banned')
      return {}
    },

    attestAgent: (requests, context) => attestAgent(requests, context, deps),

    async renewAgent ({ params }, context) {
      const agent = authorizer.agentOf(context)
      await deps.limits.signing(context, 1)
      if (params === undefined) throw new SpiffeError('attestation_malformed', 'params cannot be nil')
      if (params.csr.length === 0) throw new SpiffeError('attestation_malformed', 'missing CSR')
      if (agent.canReattest) throw new SpiffeError('agent_must_reattest', 'agent must reattest instead of renew')
      const work = { kind: 'agent' as const, caller: agent.id, endsBy: agent.expiresAt, keyType: authority.keyType }
      const [svid] = await signing.sign(work, [params.csr], async ([csr]) => {
        const { publicKey } = parseCertificateRequest(csr as Uint8Array)
        return await authority.issueX509Svids([{ id: agent.id, publicKey, dnsNames: [], ttlSeconds: deps.agentTtlSeconds }])
      }, context.signal) as [IssuedX509Svid]
      await deps.recorder.recordOne(svid, agent.id)
      await registrations.setNewSerial(agent.id, svid.serialNumber, svid.notAfter)
      context.log.info({ agent: agent.id, expires: svid.notAfter.toISOString() }, 'agent SVID renewed')
      return { svid: encodeX509Svid(svid) }
    },

    async createJoinToken (request, context) {
      return await createJoinToken(request, deps, context)
    },

    async postStatus ({ agentVersion }, context) {
      await deps.limits.status(context, 1)
      await registrations.setAgentVersion(authorizer.agentOf(context).id, agentVersion)
      return {}
    }
  }
}

function objectOf ({ id }: { readonly id: SpiffeId }) { return { kind: 'agent' as const, id } }

async function createJoinToken ({ ttl, token, agentId }: CreateJoinTokenRequest, deps: AgentDeps, context: CallContext) {
  if (ttl < 1) throw new SpiffeError('argument_invalid', 'ttl is required, you must provide one')
  const value = token === '' ? randomUUID() : token
  const nodeId = joinTokenAgentId(deps.trustDomain, value)
  const alias = agentId === undefined ? undefined : checkAliasId(agentId, deps.trustDomain)
  const access = deps.authorizer.accessOf(context)
  // Which IDs administer is known from the entries.
  if (access.isRestricted) await deps.catchUp()
  // Who shows a token that was used before becomes the agent that used it: one that is chosen is as much as the agent.
  access.require('tokens.create', { kind: 'token', agentId: token === '' ? undefined : nodeId, alias })
  const expiresAt = new Date(deps.clock.now().getTime() + ttl * 1000)
  const words = { join_token_exists: 'failed to create token: datastore-sql: ' }
  await saidFirstLater(words, () => deps.joinTokens.create(value, expiresAt))
  if (alias !== undefined) {
    const [outcome] = await deps.registrations.createEntries([aliasDraft(nodeId, alias)])
    if (outcome?.kind === 'refused') throw outcome.error
  }
  context.log.info({ alias, expires: expiresAt.toISOString() }, 'join token created')
  return { value, expiresAt: Math.floor(expiresAt.getTime() / 1000) }
}

function checkAliasId (message: SPIFFEID, trustDomain: TrustDomain): SpiffeId {
  return saidFirst('invalid agent ID: ', () => checkWorkloadId(decodeSpiffeId(message), trustDomain))
}

function aliasDraft (nodeId: SpiffeId, alias: SpiffeId): EntryDraft {
  return { ...plainEntry, spiffeId: alias, parentId: nodeId, selectors: [{ type: 'spiffe_id', value: nodeId }] }
}
