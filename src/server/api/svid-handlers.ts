import { randomBytes } from 'node:crypto'
import type { CertificateAuthority, IssuedJwtSvid, IssuedX509Svid, JwtSvidOrder, X509SvidOrder } from '../../ca/certificate-authority.ts'
import { checkDnsName, checkNoOverlap } from '../../spiffe/dns-name.ts'
import type { Entry } from '../../spiffe/entry.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { checkWorkloadId } from '../../spiffe/member-id.ts'
import { parseSpiffeId, type SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { CallContext } from '../../rpc/call.ts'
import type { BatchNewX509SVIDRequest, NewX509SVIDParams, SVIDHandlers } from '../../wire/generated/server-svid.ts'
import { decodeSpiffeId } from '../../wire/spiffe-id-codec.ts'
import { parseCertificate } from '../../x509/certificate.ts'
import { parseCertificateRequest } from '../../x509/certificate-request.ts'
import { checkAudience } from '../../jwt/audience.ts'
import type { Authorizer } from '../authorize.ts'
import type { IssuanceRecorder } from '../issuance-recorder.ts'
import type { AgentView } from '../node-aliases.ts'
import type { Registry } from '../registry.ts'
import type { SigningQueue } from '../signing-queue.ts'
import type { StandingRevocations } from '../standing-revocations.ts'
import { encodeJwtSvid, encodeX509Svid } from './encode-svid.ts'
import { isAccepted, itemOk, itemRefused } from './item-status.ts'
import type { Limits } from './limits.ts'
import { saidFirst } from './said-first.ts'
import { witSvidHandlers } from './wit-svid-handlers.ts'

export interface SvidDeps {
  readonly trustDomain: TrustDomain
  /** What a nested server's CA lives for unless it asks for something else. */
  readonly caTtlSeconds: number
  readonly defaultX509SvidTtlSeconds: number
  readonly defaultJwtSvidTtlSeconds: number
  readonly authority: CertificateAuthority
  readonly registry: Registry
  readonly revocations: StandingRevocations
  readonly recorder: IssuanceRecorder
  /** Brings the registry up to what the database says now. */
  readonly catchUp: () => Promise<void>
  readonly authorizer: Authorizer
  readonly limits: Limits
  readonly signing: SigningQueue
  readonly clock: Clock
}

/** Items one BatchNewX509SVID may carry; SPIRE's agents send 500 at most. */
const maxBatch = 1000

/** `spire.api.server.svid.v1.SVID` (spire-surface §1.6). */
export function svidHandlers (deps: SvidDeps): SVIDHandlers<CallContext> {
  const { authority, authorizer, limits, recorder, registry, revocations, trustDomain } = deps
  const requireMint = async (context: CallContext, id: SpiffeId, dnsNames: readonly string[]) => {
    const access = authorizer.accessOf(context)
    // Which IDs administer is known from the entries.
    if (access.isRestricted) await deps.catchUp()
    access.require('svids.mint', { kind: 'svid', id, dnsNames })
  }
  return {
    ...witSvidHandlers({
      limits, agentOf: context => authorizer.agentOf(context), requireEntry: (id, agent) => authorizedEntry(id, agent, deps)
    }),

    async mintX509SVID ({ csr, ttl }, context) {
      if (csr.length === 0) throw new SpiffeError('csr_malformed', 'missing CSR')
      const { publicKey, uriSans, dnsSans, subjectDer } = parseCertificateRequest(csr)
      if (uriSans.length === 0) throw new SpiffeError('csr_malformed', 'CSR URI SAN is required')
      if (uriSans.length > 1) throw new SpiffeError('csr_malformed', `only one URI SAN is expected: CSR has ${uriSans.length}`)
      const id = saidFirst('CSR URI SAN is invalid: ', () => checkWorkloadId(parseSpiffeId(uriSans[0] as string), trustDomain))
      revocations.requireId(id)
      saidFirst('CSR DNS name is invalid: ', () => dnsSans.forEach(checkDnsName))
      saidFirst('CSR DNS name contains a wildcard that covers another non-wildcard name: ', () => checkNoOverlap(dnsSans))
      await requireMint(context, id, dnsSans)
      const svid = await authority.issueX509Svid({
        id, publicKey, dnsNames: dnsSans, ttlSeconds: ttlOf(ttl, deps.defaultX509SvidTtlSeconds),
        ...(hasNames(subjectDer) ? { subject: subjectDer } : {})
      })
      await recorder.recordOne(svid, undefined)
      return { svid: encodeX509Svid(svid) }
    },

    async mintJWTSVID ({ id, audience, ttl }, context) {
      authority.requireJwt()
      const workloadId = saidFirst('invalid SPIFFE ID: ', () => checkWorkloadId(decodeSpiffeId(id), trustDomain))
      await requireMint(context, workloadId, [])
      revocations.requireId(workloadId)
      const svid = await authority.issueJwtSvid({
        id: workloadId,
        audience: checkAudience(audience),
        ttlSeconds: ttlOf(ttl, deps.defaultJwtSvidTtlSeconds)
      })
      return { svid: encodeJwtSvid(svid) }
    },

    async batchNewX509SVID (request, context) {
      if (request.params.length === 0) throw new SpiffeError('argument_invalid', 'missing parameters')
      await limits.signing(context, request.params.length)
      return { results: await newX509Svids(request, context, deps) }
    },

    /** Only the key of the request counts; the name is the trust domain's (spire-surface §7.1). */
    async newDownstreamX509CA ({ csr, preferredTtl }, context) {
      await limits.signing(context, 1)
      if (csr.length === 0) throw new SpiffeError('csr_malformed', 'missing CSR')
      const { publicKey } = parseCertificateRequest(csr)
      const ttlSeconds = ttlOf(preferredTtl, deps.caTtlSeconds)
      // A server without a CA has a whole branch waiting.
      const work = { kind: 'agent' as const, caller: callerOf(context), endsBy: deps.clock.now(), keyType: authority.keyType }
      const [caCertChain] = await deps.signing.sign(work, [publicKey], async ([publicKey]) => {
        // It may have waited for longer than its right lasted, and gets what lasts for long.
        await authorizer.authorize(context)
        return [await authority.issueDownstreamCa({ publicKey: publicKey as Uint8Array, ttlSeconds })]
      }, context.signal)
      context.log.info({ ca: parseCertificate(caCertChain?.[0] as Uint8Array).serialNumber }, 'a downstream CA was signed')
      const { x509Authorities } = authority.bundle.value
      return { caCertChain: caCertChain ?? [], x509Authorities: x509Authorities.map(({ certificate }) => certificate) }
    },

    async newJWTSVID ({ entryId, audience }, context) {
      await limits.jwt(context, 1)
      authority.requireJwt()
      const agent = authorizer.agentOf(context)
      if (!isAuthorized(entryId, agent, registry)) await deps.catchUp()
      const orderNow = (): JwtSvidOrder => {
        const entry = authorizedEntry(entryId, authorizer.agentOf(context), deps)
        return {
          id: entry.spiffeId,
          audience: checkAudience(audience),
          ttlSeconds: ttlOf(entry.jwtSvidTtlSeconds, deps.defaultJwtSvidTtlSeconds),
          ...(entry.additionalAttributes.jwtSvidIncludeJti ? { jti: randomBytes(16).toString('base64url') } : {})
        }
      }
      const order = orderNow()
      // What is signed elsewhere takes no turn of what is signed here; the key manager bounds it.
      if (authority.jwtKeyIsRemote) return { svid: encodeJwtSvid(await authority.issueJwtSvid(order)) }
      // A workload waits for it.
      const work = { kind: 'svid' as const, caller: agent.id, endsBy: deps.clock.now(), keyType: authority.jwtKeyType }
      // Of a JWT-SVID there is no record that a revocation could find: what was revoked until its turn came is not signed.
      const [svid] = await deps.signing.sign(work, [order], async () => [await authority.issueJwtSvid(orderNow())], context.signal)
      return { svid: encodeJwtSvid(svid as IssuedJwtSvid) }
    }
  }
}

/** Checks and signs a slice at a time. */
async function newX509Svids ({ params }: BatchNewX509SVIDRequest, context: CallContext, deps: SvidDeps) {
  const { authority, authorizer, recorder, registry, signing } = deps
  const agent = authorizer.agentOf(context)
  if (params.length > maxBatch) throw new SpiffeError('argument_invalid', `more than ${maxBatch} CSRs in one batch`)
  // An agent may have heard of an entry from another replica before this one did.
  if (params.some(({ entryId }) => !isAuthorized(entryId, agent, registry))) await deps.catchUp()
  const work = { kind: 'svid' as const, caller: agent.id, endsBy: renewedBefore(params, deps), keyType: authority.keyType }
  const signed = await signing.sign(work, params, async slice => {
    const agent = authorizer.agentOf(context)
    const orders = slice.map(item => orderOf(item, agent, deps))
    const svids = (await authority.issueX509Svids(orders.filter(isAccepted))).values()
    return orders.map((order): IssuedX509Svid | SpiffeError => {
      if (order instanceof SpiffeError) return order
      const svid = svids.next().value
      if (svid === undefined) throw new Error('the authority signed fewer SVIDs than ordered')
      return svid
    })
  }, context.signal)
  // Of all slices together, and with what others have signed meanwhile.
  const refusals = (await recorder.record(signed.filter(isAccepted), agent.id)).values()
  return signed.map(svid => {
    if (svid instanceof SpiffeError) return { status: itemRefused(svid) }
    const refused = refusals.next().value
    return refused === undefined ? { status: itemOk, svid: encodeX509Svid(svid) } : { status: itemRefused(refused) }
  })
}

/**
 * When the first of what a batch replaces ends, at the latest. A request does not say; agents renew at half of the life, so at most half of
 * it is left.
 */
function renewedBefore (params: readonly NewX509SVIDParams[], { registry, clock, defaultX509SvidTtlSeconds }: SvidDeps): Date {
  const ttls = params.map(({ entryId }) => registry.get(entryId)?.x509SvidTtlSeconds || defaultX509SvidTtlSeconds)
  return new Date(clock.now().getTime() + Math.min(defaultX509SvidTtlSeconds, ...ttls) * 500)
}

/** Identity, DNS names and lifetime come from the entry; only the key comes from the CSR. */
function orderOf ({ entryId, csr }: NewX509SVIDParams, agent: AgentView, deps: SvidDeps): X509SvidOrder | SpiffeError {
  try {
    if (entryId === '') throw new SpiffeError('argument_invalid', 'missing entry ID')
    if (csr.length === 0) throw new SpiffeError('csr_malformed', 'missing CSR')
    const entry = authorizedEntry(entryId, agent, deps)
    const { publicKey } = parseCertificateRequest(csr)
    const ttlSeconds = ttlOf(entry.x509SvidTtlSeconds, deps.defaultX509SvidTtlSeconds)
    return { id: entry.spiffeId, publicKey, dnsNames: entry.dnsNames, ttlSeconds }
  } catch (error) {
    if (error instanceof SpiffeError) return error
    throw error
  }
}

/** @throws {SpiffeError} `entry_not_authorized`, `spiffe_id_revoked` */
function authorizedEntry (entryId: string, agent: AgentView, { registry, revocations }: SvidDeps): Entry {
  const entry = registry.get(entryId)
  if (entry !== undefined) revocations.requireId(entry.spiffeId)
  if (entry === undefined || !registry.isAuthorized(agent, entry)) {
    throw new SpiffeError('entry_not_authorized', 'entry not found or not authorized')
  }
  return entry
}

function callerOf ({ caller }: CallContext): string {
  return caller.kind === 'tls' ? caller.svid?.id ?? caller.address : 'local'
}

function isAuthorized (entryId: string, agent: AgentView, registry: Registry): boolean {
  const entry = registry.get(entryId)
  return entry !== undefined && registry.isAuthorized(agent, entry)
}

function ttlOf (seconds: number, defaultSeconds: number): number {
  if (seconds < 0) throw new SpiffeError('argument_invalid', `ttl ${seconds} is negative`)
  return seconds === 0 ? defaultSeconds : seconds
}

/** An empty Name is `30 00`. */
function hasNames (subjectDer: Uint8Array): boolean { return subjectDer.length > 2 }
