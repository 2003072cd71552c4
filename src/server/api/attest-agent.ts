import type { NodeVerifier, VerifiedNode } from '../../attestation/node/node-verifier.ts'
import { Mailbox } from '../../runtime/mailbox.ts'
import { type Agent, agentIdOf, attestedBefore, templatedAgentIdOf } from '../../spiffe/agent.ts'
import type { IssuedX509Svid, X509SvidOrder } from '../../ca/certificate-authority.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { checkSelector } from '../../spiffe/selector.ts'
import type { CallContext } from '../../rpc/call.ts'
import type { AttestAgentRequest, AttestAgentResponseInit } from '../../wire/generated/server-agent.ts'
import { parseCertificateRequest } from '../../x509/certificate-request.ts'
import type { AgentDeps } from './agent-handlers.ts'
import { encodeX509Svid } from './encode-svid.ts'
import { hostOf } from './limits.ts'
import { saidFirstOf } from './said-first.ts'

/**
 * Node attestation (spire-surface §2.1). The SVID is signed before a join token is taken; its record, token and node row are written in
 * one transaction: a token is used up exactly when its agent exists.
 */
export async function * attestAgent (requests: AsyncIterable<AttestAgentRequest>, context: CallContext, deps: AgentDeps):
AsyncGenerator<AttestAgentResponseInit> {
  try {
    yield * attest(requests[Symbol.asyncIterator](), context, deps)
  } catch (error) {
    const told = saidFirstOf({ join_token_invalid: 'failed to attest: ' }, error)
    if (told instanceof SpiffeError) context.log.warn({ code: told.code, reason: told.message }, 'attestation refused')
    throw told
  }
}

async function * attest (
  requests: AsyncIterator<AttestAgentRequest>, context: CallContext, deps: AgentDeps
): AsyncGenerator<AttestAgentResponseInit> {
  const { log } = context
  await deps.limits.attestation(context, 1)
  const { type, payload, csr } = await readParams(requests)
  log.debug({ attestor: type, payloadBytes: payload.length }, 'attestation received')
  const verifier = deps.verifiers.get(type)
  if (verifier === undefined) {
    throw new SpiffeError('attestor_unknown',
      `error getting node attestor: could not find node attestor type ${JSON.stringify(type.slice(0, 64))}`)
  }

  const { publicKey } = parseCertificateRequest(csr)
  log.debug('certificate request is well formed and signed by its key')
  const node = yield * verify(verifier, payload, requests, context)
  const { selectors, canReattest, joinToken, onlyOnce } = node
  const { trustDomain } = deps
  const id = node.agentPath === undefined ? agentIdOf(trustDomain, type, node.idPath) : templatedAgentIdOf(trustDomain, node.agentPath)
  const known = deps.directory.get(id)
  if (known?.banned === true) throw new SpiffeError('agent_banned', 'failed to attest: agent is banned')
  if (known !== undefined && onlyOnce === true) throw attestedBefore(id)
  if (joinToken === undefined) log.debug({ agent: id, selectors }, 'node is known')
  else log.debug({ agent: withoutToken(id) }, 'join token is valid')

  const svid = await signAttested({ id, publicKey, dnsNames: [], ttlSeconds: deps.agentTtlSeconds }, context, deps)
  const agent: Agent = {
    id,
    attestationType: type,
    serialNumber: svid.serialNumber,
    expiresAt: svid.notAfter,
    canReattest,
    selectors: [
      ...selectors.map(value => checkSelector({ type, value })),
      ...deps.agentIdAsSelector ? [{ type: 'spiffe_id', value: id }] : []
    ],
    banned: false,
    agentVersion: ''
  }
  await deps.registrations.attestAgent(agent, { joinToken, onlyOnce, issued: deps.recorder.recordOf(svid, id) })
  log.info({ agent: id, expires: svid.notAfter.toISOString() }, 'agent attested')
  yield { result: { svid: encodeX509Svid(svid), reattestable: canReattest } }
}

/** Passes challenges on, and answers back, until the verifier knows the node. */
async function * verify (
  verifier: NodeVerifier, payload: Uint8Array, requests: AsyncIterator<AttestAgentRequest>, { caller, signal }: CallContext
): AsyncGenerator<AttestAgentResponseInit, VerifiedNode> {
  const challenges = new Mailbox<Uint8Array>()
  const verified = verifier.verify(payload, {
    signal,
    address: caller.kind === 'tls' ? hostOf(caller.address) : undefined,
    async challenge (challenge) {
      challenges.put(challenge)
      return await readAnswer(requests)
    }
  }).finally(() => challenges.close())
  // Awaited below; until then a failure is no one's.
  verified.catch(() => {})
  for await (const challenge of challenges) yield { challenge }
  return await verified
}

async function readAnswer (requests: AsyncIterator<AttestAgentRequest>): Promise<Uint8Array> {
  const { done, value } = await requests.next()
  if (done === true) throw malformed('the stream ended before the challenge was answered')
  if (value.challengeResponse === undefined || value.challengeResponse.length === 0) throw malformed('missing challenge response')
  return value.challengeResponse
}

/** The node has nothing yet, so what it waits for cannot end; whoever attests is known by its address alone. */
async function signAttested (order: X509SvidOrder, { caller, signal }: CallContext, deps: AgentDeps): Promise<IssuedX509Svid> {
  const { authority, clock, signing } = deps
  const work = {
    kind: 'attestation' as const,
    caller: caller.kind === 'tls' ? hostOf(caller.address) : 'local',
    endsBy: clock.now(),
    keyType: authority.keyType
  }
  const [svid] = await signing.sign(work, [order], async orders => await authority.issueX509Svids(orders), signal)
  return svid as IssuedX509Svid
}

async function readParams (requests: AsyncIterator<AttestAgentRequest>): Promise<{ type: string, payload: Uint8Array, csr: Uint8Array }> {
  const first = await requests.next()
  if (first.done === true) throw malformed('the stream ended before the first message')
  const { params } = first.value
  if (params === undefined) throw malformed('missing params')
  if (params.data === undefined) throw malformed('missing attestation data')
  const { type, payload } = params.data
  if (type === '') throw malformed('missing attestation data type')
  if (payload.length === 0) throw malformed('missing attestation data payload')
  if (params.params === undefined) throw malformed('missing X509-SVID parameters')
  const { csr } = params.params
  if (csr.length === 0) throw malformed('missing CSR')
  return { type, payload, csr }
}

function malformed (what: string): SpiffeError {
  return new SpiffeError('attestation_malformed', `malformed param: ${what}`)
}

/** Until it is used up, the token in the ID is a secret. */
function withoutToken (id: string): string {
  return id.replace(/[^/]+$/, '[secret]')
}
