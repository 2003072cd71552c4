import { checkAudience } from '../jwt/audience.ts'
import { type CallContext, checkCaller } from '../rpc/call.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { checkSelector, normalizeSelectors, type Selector } from '../spiffe/selector.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'
import { type Encoded, encoded } from '../wire/encoded.ts'
import {
  type DelegatedIdentityHandlers, SubscribeToJWTBundlesResponse, SubscribeToX509BundlesResponse, SubscribeToX509SVIDsResponse
} from '../wire/generated/delegated-identity.ts'
import type { MessageType } from '../wire/message-type.ts'
import type { AttestWorkload } from '../workloadapi/identity-source.ts'
import type { AttestPid, CallerIdentities, DelegableIdentities } from './delegable-identities.ts'
import { Delegates } from './delegates.ts'
import { jwtBundlesResponse, jwtSvidsResponse, x509BundlesResponse, x509SvidsResponse } from './responses.ts'

export interface DelegatedIdentityDeps {
  /** `authorized_delegates`; without any, nobody is served. */
  readonly authorizedDelegates: readonly SpiffeId[]
  readonly attestWorkload: AttestWorkload
  readonly attestPid: AttestPid
  readonly callers: CallerIdentities
  readonly identities: DelegableIdentities
}

interface Named { readonly selectors: readonly Selector[], readonly pid: number }

/** SPIRE's Delegated Identity API (spire-surface §1.10): other workloads' identities, for whom the operator trusts with them. */
export function delegatedIdentityHandlers (deps: DelegatedIdentityDeps): DelegatedIdentityHandlers<CallContext> {
  const { identities, attestPid } = deps
  const delegates = new Delegates({
    authorized: deps.authorizedDelegates, attestWorkload: deps.attestWorkload, callers: deps.callers
  })

  /** Of the workload that the request names; ends with it, if it is a process. */
  async function * svidsOf (request: Named, context: CallContext, signal: AbortSignal) {
    using workload = await find(request, context)
    const both = workload.ended === undefined ? signal : AbortSignal.any([signal, workload.ended])
    for await (const identity of identities.watch(workload.selectors, both)) {
      workload.check()
      yield x509SvidsResponse(identity)
    }
    if (!signal.aborted) workload.ended?.throwIfAborted()
  }

  const bundles = (context: CallContext) => delegates.whileAdmitted(context, signal => identities.watchBundles(signal))

  async function find (request: Named, context: CallContext): Promise<Workload> {
    const { selectors, pid } = request
    if ((selectors.length > 0) === (pid !== 0)) {
      throw new SpiffeError('argument_invalid', 'must provide either selectors or non-zero PID, but not both')
    }
    if (pid < 0) throw new SpiffeError('argument_invalid', `PID ${pid} is negative`)
    if (pid !== 0) return await attestPid(pid, context)
    return { selectors: normalizeSelectors(selectors.map(checkSelector)), ended: undefined, check () {}, [Symbol.dispose] () {} }
  }

  return {
    subscribeToX509SVIDs: (request, context) => changes(
      SubscribeToX509SVIDsResponse, delegates.whileAdmitted(context, signal => svidsOf(request, context, signal))
    ),

    subscribeToX509Bundles: (_request, context) =>
      changes(SubscribeToX509BundlesResponse, mapped(bundles(context), x509BundlesResponse)),

    subscribeToJWTBundles: (_request, context) =>
      changes(SubscribeToJWTBundlesResponse, mapped(bundles(context), jwtBundlesResponse)),

    async fetchJWTSVIDs (request, context) {
      if (request.audience.length === 0) throw new SpiffeError('argument_invalid', 'audience must be specified')
      const audience = checkAudience(request.audience)
      const caller = await delegates.admit(context)
      using workload = await find(request, context)
      const svids = await identities.fetchJwtSvids(workload.selectors, audience, undefined, context.signal)
      delegates.check(caller)
      checkCaller(context)
      workload.check()
      return jwtSvidsResponse(svids)
    }
  }
}

interface Workload extends Disposable {
  readonly selectors: readonly Selector[]
  /** `undefined` for one that only selectors describe: it cannot end. */
  readonly ended: AbortSignal | undefined
  check (): void
}

/** Each message that differs from the one before. */
async function * changes<T, Init> (type: MessageType<T, Init>, states: AsyncIterable<Init>): AsyncGenerator<Encoded<T>, void, undefined> {
  let last: Uint8Array | undefined
  for await (const state of states) {
    const response = encoded(type, state)
    if (last !== undefined && Buffer.compare(last, response.bytes) === 0) continue
    last = response.bytes
    yield response
  }
}

async function * mapped<A, B> (items: AsyncIterable<A>, map: (item: A) => B): AsyncGenerator<B, void, undefined> {
  for await (const item of items) yield map(item)
}
