import { checkAudience } from '../jwt/audience.ts'
import type { CallContext } from '../rpc/call.ts'
import { codeOf, SpiffeError } from '../spiffe/errors.ts'
import { parseSpiffeId } from '../spiffe/spiffe-id.ts'
import type { WorkloadIdentity } from '../spiffe/svid.ts'
import type { Encoded } from '../wire/encoded.ts'
import {
  type BrokerHandlers, SubscribeToJWTBundlesResponse, SubscribeToX509BundlesResponse, SubscribeToX509SVIDResponse, type WorkloadReference
} from '../wire/generated/broker.ts'
import { encodeOnce } from '../workloadapi/encode-once.ts'
import type { IdentitySource } from '../workloadapi/identity-source.ts'
import { jwtBundlesResponse, jwtSvidResponse } from '../workloadapi/jwt-responses.ts'
import { x509BundlesResponse, x509SvidResponse } from '../workloadapi/x509-responses.ts'
import { ReferencedWorkloads, type ReferencedWorkloadsDeps } from './referenced-workloads.ts'

export interface BrokerApiDeps extends ReferencedWorkloadsDeps {
  /** What may be had for others: neither administrators' nor downstream servers' identities. */
  readonly identities: IdentitySource
}

/**
 * The SPIFFE Broker API: what a workload would get from the Workload API, for a broker that references it. Who calls has been admitted
 * before (`admitBroker`).
 */
export function brokerHandlers (deps: BrokerApiDeps): BrokerHandlers<CallContext> {
  const { identities } = deps
  const workloads = new ReferencedWorkloads(deps)
  const encodeX509Svids = encodeOnce(SubscribeToX509SVIDResponse, x509SvidResponse)
  const encodeX509Bundles = encodeOnce(SubscribeToX509BundlesResponse, x509BundlesResponse)
  const encodeJwtBundles = encodeOnce(SubscribeToJWTBundlesResponse, jwtBundlesResponse)

  /** The whole state at once, then after each change that shows in it, until the workload ends (BRK-18, BRK-25). */
  async function * watch<T> (
    reference: WorkloadReference | undefined, context: CallContext, encode: (identity: WorkloadIdentity) => Encoded<T>
  ): AsyncGenerator<Encoded<T>, void, undefined> {
    using workload = await workloads.find(reference, context)
    let last: Uint8Array | undefined
    for await (const identity of identities.watch(workload.selectors, AbortSignal.any([context.signal, workload.ended]))) {
      workload.check()
      if (identity.svids.length === 0) throw identity.awaitsSvids === true ? notYetSigned() : notEntitled()
      const response = encode(identity)
      if (last !== undefined && (last === response.bytes || Buffer.compare(last, response.bytes) === 0)) continue
      last = response.bytes
      yield response
    }
    if (!context.signal.aborted) workload.ended.throwIfAborted()
  }

  return {
    subscribeToX509SVID: ({ reference }, context) => watch(reference, context, encodeX509Svids),
    subscribeToX509Bundles: ({ reference }, context) => watch(reference, context, encodeX509Bundles),
    subscribeToJWTBundles: ({ reference }, context) => watch(reference, context, encodeJwtBundles),

    async fetchJWTSVID ({ reference, audience, spiffeId }, context) {
      const values = checkAudience(audience)
      const id = spiffeId === '' ? undefined : parseSpiffeId(spiffeId)
      using workload = await workloads.find(reference, context)
      const svids = await identities.fetchJwtSvids(workload.selectors, values, id, context.signal).catch((error: unknown) => {
        throw codeOf(error) === 'no_identity_issued' ? notEntitled() : error
      })
      workload.check()
      return jwtSvidResponse(svids)
    }
  }
}

function notEntitled (): SpiffeError {
  return new SpiffeError('workload_not_entitled', 'no identity issued', { requirement: 'BRK-23' })
}

/** Not `workload_not_entitled`, which tells brokers to drop what they have (BRK-27). */
function notYetSigned (): SpiffeError {
  return new SpiffeError('svid_unavailable', 'the workload has an identity, but no valid SVID for it at present')
}
