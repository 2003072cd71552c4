import type { NodeVerifier, VerifiedNode } from '../attestation/node/node-verifier.ts'
import type { ExternalProgram } from '../plugins/external-program.ts'
import { RpcError } from '../rpc/rpc-error.ts'
import { Mailbox } from '../runtime/mailbox.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { parseSpiffeId, pathOf, trustDomainOf } from '../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import {
  type AgentAttributes, type AttestRequestInit, serverNodeAttestorPluginService
} from '../wire/generated/plugin-server-node-attestor.ts'
import { ExternalPlugin } from './external-plugin.ts'
import type { PluginHost } from './plugin-host.ts'

/** Of a whole attestation, the agent's answers to challenges included. */
const timeoutMs = 60_000

/** The server's half of SPIRE's plugin type `NodeAttestor`. Its name is the attestation type, and that of its selectors. */
export async function startExternalNodeVerifier (
  name: string, program: ExternalProgram, host: PluginHost, signal: AbortSignal
): Promise<NodeVerifier & AsyncDisposable> {
  const service = serverNodeAttestorPluginService
  const plugin = await ExternalPlugin.start({ type: 'NodeAttestor', name, program, service: service.name }, host, signal)
  return {
    name,
    async verify (payload, exchange) {
      const requests = new Mailbox<AttestRequestInit>()
      requests.put({ payload })
      try {
        for await (const answer of plugin.channel.client(service).attest(requests, { signal: exchange.signal, timeoutMs })) {
          if (answer.agentAttributes !== undefined) return readAttributes(answer.agentAttributes, name, host.trustDomain)
          if (answer.challenge === undefined) throw failed(name, 'gave neither a challenge nor attributes')
          const challengeResponse = await exchange.challenge(answer.challenge).catch(error => { throw new OfAgent(error) })
          requests.put({ challengeResponse })
        }
        throw failed(name, 'ended the attestation without attributes')
      } catch (error) {
        throw error instanceof OfAgent ? error.cause : refusalOf(error, plugin)
      } finally {
        requests.close()
      }
    },
    [Symbol.asyncDispose]: () => plugin[Symbol.asyncDispose]()
  }
}

/** What went wrong between the agent and us, of which the plugin knows nothing. */
class OfAgent extends Error {
  constructor (cause: unknown) { super('the agent did not answer', { cause }) }
}

/** What it says of the payload is for the agent to know. */
function refusalOf (error: unknown, plugin: ExternalPlugin): unknown {
  if (!(error instanceof RpcError)) return plugin.refusal(error)
  const { status, message } = error
  if (status === 'INVALID_ARGUMENT') return new SpiffeError('attestation_malformed', `${plugin.name}: ${message}`, { cause: error })
  if (status === 'PERMISSION_DENIED' || status === 'UNAUTHENTICATED') {
    return new SpiffeError('attestation_refused', `${plugin.name}: ${message}`, { cause: error })
  }
  return plugin.refusal(error)
}

/** IDs of other shapes could be another attestor's, or an entry's. */
function readAttributes ({ spiffeId, selectorValues, canReattest }: AgentAttributes, name: string, trustDomain: TrustDomain): VerifiedNode {
  const prefix = `/spire/agent/${name}/`
  let id
  try {
    id = parseSpiffeId(spiffeId)
  } catch (cause) {
    throw failed(name, `gave the agent no SPIFFE ID: ${(cause as Error).message}`, cause)
  }
  const path = pathOf(id)
  if (trustDomainOf(id) !== trustDomain || !path.startsWith(prefix) || path.length === prefix.length) {
    throw failed(name, `gave the agent the ID ${id}, which is not below spiffe://${trustDomain}${prefix}`)
  }
  return { idPath: path.slice(prefix.length), selectors: selectorValues, canReattest }
}

function failed (name: string, what: string, cause?: unknown): SpiffeError {
  return new SpiffeError('plugin_failed', `the plugin ${name} ${what}`, { cause })
}
