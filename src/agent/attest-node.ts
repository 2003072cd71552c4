import type { Bundle } from '../spiffe/bundle.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import type { Logger } from '../runtime/logger.ts'
import { openTlsChannel } from '../rpc/channel.ts'
import { decodeBundle } from '../wire/bundle-codec.ts'
import { agentService, type AttestAgentRequestInit } from '../wire/generated/server-agent.ts'
import { bundleService } from '../wire/generated/server-bundle.ts'
import { ownBundleOf } from './own-bundle.ts'
import type { VerifyServer } from './verify-server.ts'

export interface NodeAttestation {
  readonly address: string
  readonly trustDomain: TrustDomain
  readonly verifyServer: VerifyServer
  /** Attestor name and its evidence, e.g. `join_token` and the token's bytes. Secret. */
  readonly evidence: { readonly type: string, readonly payload: Uint8Array }
  /** PKCS#10, DER. */
  readonly csr: Uint8Array
  readonly log: Logger
}

export interface NodeAttestationResult {
  /** DER, leaf first. */
  readonly chain: readonly Uint8Array[]
  readonly canReattest: boolean
  readonly bundle: Bundle
}

const timeoutMs = 30_000

/**
 * Attests this node and fetches the bundle over the same connection (spire-surface §2.1).
 * @throws {RpcError} what the server refused with; {SpiffeError} `server_unreachable`, `bundle_malformed`
 */
export async function attestNode (attestation: NodeAttestation, signal: AbortSignal): Promise<NodeAttestationResult> {
  const { address, trustDomain, verifyServer, evidence, csr, log } = attestation
  await using channel = openTlsChannel({ address, verifyServer, log })
  const calls = { signal, timeoutMs }
  const { svid, canReattest } = await attest()
  const bundle = ownBundleOf(decodeBundle(await channel.client(bundleService).getBundle({}, calls)), trustDomain)
  return { chain: svid, canReattest, bundle }

  async function attest () {
    const requests = (async function * (): AsyncGenerator<AttestAgentRequestInit> {
      yield { params: { data: evidence, params: { csr } } }
    })()
    for await (const { result, challenge } of channel.client(agentService).attestAgent(requests, calls)) {
      if (result?.svid !== undefined) return { svid: result.svid.certChain, canReattest: result.reattestable }
      if (challenge !== undefined) throw new SpiffeError(
        'attestation_malformed', `the server challenges ${evidence.type}, which has no answer`
      )
    }
    throw new SpiffeError('attestation_malformed', 'the server ended the attestation without an SVID')
  }
}
