import { checkAudience } from '../jwt/audience.ts'
import { validateJwtSvid } from '../jwt/validate-jwt-svid.ts'
import { checkCaller, type CallContext } from '../rpc/call.ts'
import type { Clock } from '../runtime/clock.ts'
import { firstOf } from '../runtime/first-of.ts'
import type { Bundle } from '../spiffe/bundle.ts'
import { codeOf, SpiffeError } from '../spiffe/errors.ts'
import type { Selector } from '../spiffe/selector.ts'
import { parseSpiffeId, trustDomainOf, type SpiffeId } from '../spiffe/spiffe-id.ts'
import type { WorkloadIdentity } from '../spiffe/svid.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import type { Encoded } from '../wire/encoded.ts'
import { JWTBundlesResponse, type SpiffeWorkloadAPIHandlers, X509BundlesResponse, X509SVIDResponse } from '../wire/generated/workload.ts'
import { encodeOnce } from './encode-once.ts'
import type { AttestWorkload, IdentitySource } from './identity-source.ts'
import { jwtBundlesResponse, jwtSvidResponse } from './jwt-responses.ts'
import { requireSecurityHeader } from './security-header.ts'
import { encodeStruct } from './struct-codec.ts'
import { visibleClaims } from './validated-claims.ts'
import { x509BundlesResponse, x509SvidResponse } from './x509-responses.ts'

export interface WorkloadApiDeps {
  readonly attestWorkload: AttestWorkload
  readonly identities: IdentitySource
  readonly clock: Clock
  /** Told of each caller that is refused because no entry is for it, and of what it was found to be. */
  readonly onNoIdentity?: ((context: CallContext, selectors: readonly Selector[]) => void) | undefined
  /** Tokens of such an ID are refused, however valid. */
  readonly isRevoked?: ((id: SpiffeId) => boolean) | undefined
  /** Gives the own domain's bundles to callers without an identity, so that they can verify peers (`allow_unauthenticated_verifiers`). */
  readonly allowUnauthenticatedVerifiers?: boolean | undefined
  /** `allowed_foreign_jwt_claims`. */
  readonly allowedForeignJwtClaims?: readonly string[] | undefined
}

/** The methods served; the optional WIT profile is not among them, which callers see as UNIMPLEMENTED (WLAPI-02). */
export type WorkloadHandlers = Omit<SpiffeWorkloadAPIHandlers<CallContext>, 'fetchWITSVID' | 'fetchWITBundles'>

/** The SPIFFE Workload API (spire-surface §1.11). What a caller gets depends on who it was found to be, not on what it says (WLAPI-05). */
export function workloadHandlers (deps: WorkloadApiDeps): WorkloadHandlers {
  const { identities, clock } = deps
  const allowedForeignClaims = new Set(deps.allowedForeignJwtClaims)
  const encodeX509Svids = encodeOnce(X509SVIDResponse, x509SvidResponse)
  const encodeX509Bundles = encodeOnce(X509BundlesResponse, identity => x509BundlesResponse(seenByVerifier(identity)))
  const encodeJwtBundles = encodeOnce(JWTBundlesResponse, identity => jwtBundlesResponse(seenByVerifier(identity)))

  async function identify (context: CallContext) {
    requireSecurityHeader(context)
    return await deps.attestWorkload(context)
  }

  function refused (context: CallContext, selectors: readonly Selector[]): SpiffeError {
    deps.onNoIdentity?.(context, selectors)
    return new SpiffeError('no_identity_issued', 'no identity issued', { requirement: 'WLAPI-16' })
  }

  /** The whole state at once, then the whole state after each change that shows in it (WLAPI-07 to -09). */
  async function * watch<T> (
    context: CallContext, encode: (identity: WorkloadIdentity) => Encoded<T>, mayBeUnknown: boolean
  ): AsyncGenerator<Encoded<T>, void, undefined> {
    const selectors = await identify(context)
    let last: Uint8Array | undefined
    for await (const identity of identities.watch(selectors, context.signal)) {
      if (identity.svids.length === 0 && !mayBeUnknown) throw identity.awaitsSvids === true ? notYetSigned() : refused(context, selectors)
      const response = encode(identity)
      if (last !== undefined && (last === response.bytes || Buffer.compare(last, response.bytes) === 0)) continue
      last = response.bytes
      checkCaller(context)
      yield response
    }
  }

  return {
    fetchX509SVID: (_request, context) => watch(context, encodeX509Svids, false),
    fetchX509Bundles: (_request, context) => watch(context, encodeX509Bundles, deps.allowUnauthenticatedVerifiers ?? false),
    fetchJWTBundles: (_request, context) => watch(context, encodeJwtBundles, deps.allowUnauthenticatedVerifiers ?? false),

    async fetchJWTSVID (request, context) {
      requireSecurityHeader(context)
      const { spiffeId } = request
      const audience = checkAudience(request.audience)
      const id = spiffeId === '' ? undefined : parseSpiffeId(spiffeId)
      const selectors = await identify(context)
      const svids = await identities.fetchJwtSvids(selectors, audience, id, context.signal).catch((error: unknown) => {
        throw codeOf(error) === 'no_identity_issued' ? refused(context, selectors) : error
      })
      checkCaller(context)
      return jwtSvidResponse(svids)
    },

    async validateJWTSVID ({ audience, svid }, context) {
      requireSecurityHeader(context)
      if (audience === '') throw new SpiffeError('argument_invalid', 'audience must be specified', { requirement: 'WLAPI-28' })
      if (svid === '') throw new SpiffeError('argument_invalid', 'svid must be specified', { requirement: 'WLAPI-28' })
      const identity = await firstOf(identities.watch(await identify(context), context.signal))
      if (identity === undefined) throw new SpiffeError('cancelled', 'the call ended before the identities were there')
      const own = identity.bundle.trustDomain
      const bundleOf = (trustDomain: TrustDomain): Bundle | undefined =>
        trustDomain === own ? identity.bundle : identity.federatedBundles.get(trustDomain)
      const { id, claims } = validated(svid, audience, bundleOf, clock.now())
      if (deps.isRevoked?.(id) === true) throw new SpiffeError('jwt_svid_invalid', `${id} is revoked`)
      return { spiffeId: id, claims: encodeStruct(visibleClaims(claims, trustDomainOf(id), own, allowedForeignClaims)) }
    }
  }
}

/** Without an identity a caller sees the own domain only. */
function seenByVerifier (identity: WorkloadIdentity): WorkloadIdentity {
  return identity.svids.length > 0 ? identity : { ...identity, federatedBundles: new Map() }
}

/** Whatever is wrong with a token is the caller's argument (AMB-10). */
function validated (svid: string, audience: string, bundleOf: (trustDomain: TrustDomain) => Bundle | undefined, at: Date) {
  try {
    return validateJwtSvid(svid, { bundleOf, audience: [audience], at })
  } catch (error) {
    if (!(error instanceof SpiffeError) || error.row.status === 'INVALID_ARGUMENT') throw error
    throw new SpiffeError('jwt_svid_invalid', error.message, { cause: error, requirement: error.requirement })
  }
}

/** Not `no_identity_issued`, which tells clients to drop what they have (WLAPI-17). */
function notYetSigned (): SpiffeError {
  return new SpiffeError('svid_unavailable', 'the workload has an identity, but no valid SVID for it at present')
}
