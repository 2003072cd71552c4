import type { NodeAttestor } from '../attestation/node/node-attestor.ts'
import type { Bundle } from '../spiffe/bundle.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import type { Logger } from '../runtime/logger.ts'
import { openTlsChannel, type Channel } from '../rpc/channel.ts'
import type { TlsDemands } from '../rpc/tls-identity.ts'
import { decodeBundle } from '../wire/bundle-codec.ts'
import { agentService, type AttestAgentRequestInit } from '../wire/generated/server-agent.ts'
import { bundleService } from '../wire/generated/server-bundle.ts'
import { Mailbox } from '../runtime/mailbox.ts'
import { ownBundleOf } from './own-bundle.ts'
import type { VerifyServer } from '../rpc/verify-server.ts'

export interface NodeAttestation extends Required<TlsDemands> {
  readonly address: string
  readonly trustDomain: TrustDomain
  readonly verifyServer: VerifyServer
  readonly attestor: NodeAttestor
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
 * @throws {RpcError} what the server refused with; {SpiffeError} `server_unreachable`, `attestation_malformed`, `bundle_malformed`, and
 * what the attestor threw
 */
export async function attestNode (attestation: NodeAttestation, signal: AbortSignal): Promise<NodeAttestationResult> {
  const { address, trustDomain, verifyServer, requirePqKem, log } = attestation
  await using channel = openTlsChannel({ address, verifyServer, requirePqKem, log })
  const { chain, canReattest } = await attest(channel, attestation, signal)
  const bundle = ownBundleOf(decodeBundle(await channel.client(bundleService).getBundle({}, { signal, timeoutMs })), trustDomain)
  return { chain, canReattest, bundle }
}

/** Evidence and CSR first, then an answer to each challenge until the server has an SVID for us. */
async function attest (channel: Channel, { attestor, csr }: NodeAttestation, signal: AbortSignal) {
  const proof = attestor.attest(signal)
  const requests = new Mailbox<AttestAgentRequestInit>()
  try {
    const payload = valueOf(await proof.next(new Uint8Array()), `${attestor.name} has nothing to show`)
    requests.put({ params: { data: { type: attestor.name, payload }, params: { csr } } })
    for await (const { result, challenge } of channel.client(agentService).attestAgent(requests, { signal, timeoutMs })) {
      if (result?.svid !== undefined) return { chain: result.svid.certChain, canReattest: result.reattestable }
      if (challenge === undefined) throw new SpiffeError('attestation_malformed', 'the server sent neither an SVID nor a challenge')
      const challengeResponse = valueOf(await proof.next(challenge), `the server challenges ${attestor.name} once more than it answers`)
      requests.put({ challengeResponse })
    }
    throw new SpiffeError('attestation_malformed', 'the server ended the attestation without an SVID')
  } finally {
    requests.close()
    await proof.return()
  }
}

function valueOf ({ done, value }: IteratorResult<Uint8Array, void>, otherwise: string): Uint8Array {
  if (done === true) throw new SpiffeError('attestation_malformed', otherwise)
  return value
}
