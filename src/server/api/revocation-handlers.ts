import { hash } from 'node:crypto'
import { isAgentId, parseAgentId } from '../../spiffe/agent.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { serverIdOf } from '../../spiffe/member-id.ts'
import type { Revocation } from '../../spiffe/revocation.ts'
import { parseSpiffeId, type SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { AdminAccess } from '../../authz/admin/access.ts'
import type { CallContext } from '../../rpc/call.ts'
import { nameOf } from './caller-name.ts'
import type { IssuedSvidStore } from '../../storage/issued-svid-store.ts'
import type { RevocationStore, RevocationTarget } from '../../storage/revocation-store.ts'
import type { RevocationHandlers, RevocationRecordInit, RevokeRequest, SvidTarget } from '../../wire/generated/revocation.ts'
import { decodeSpiffeId, spiffeIdText } from '../../wire/spiffe-id-codec.ts'
import { parseCertificate } from '../../x509/certificate.ts'
import type { Authorizer } from '../authorize.ts'
import type { Registry } from '../registry.ts'
import type { StandingRevocations } from '../standing-revocations.ts'

export interface RevocationDeps {
  readonly trustDomain: TrustDomain
  readonly store: { readonly revocations: RevocationStore, readonly issuedSvids: IssuedSvidStore }
  readonly registry: Registry
  readonly revocations: StandingRevocations
  /** Brings the memory up to what the database says now. */
  readonly catchUp: () => Promise<void>
  readonly authorizer: Authorizer
  readonly defaultX509SvidTtlSeconds: number
  readonly defaultJwtSvidTtlSeconds: number
  readonly agentTtlSeconds: number
  readonly clock: Clock
}

/**
 * Tokens have no record that a revocation could find, and go on being signed until each replica knows of it: while the database is waited
 * for, and then for as long as an older view may answer agents.
 */
const signedMeanwhileMs = 30_000

/** `assay.server.revocation.v1.Revocation`. */
export function revocationHandlers (deps: RevocationDeps): RevocationHandlers<CallContext> {
  const { authorizer, store, revocations, catchUp } = deps
  /** What is stored counts: an answer does not turn into a failure because the database cannot be read a moment later. */
  const shown = async (write: Promise<Revocation>) => {
    const revocation = await write
    await catchUp().catch(() => {})
    return revocation
  }
  return {
    async revoke (request, context) {
      const target = await readTarget(request, deps)
      authorizer.accessOf(context).require('revocations.revoke', objectOf(target))
      const revokedBy = nameOf(context.caller)
      const revocation = await shown(store.revocations.revoke({ ...target, reason: request.reason, revokedBy }))
      context.log.warn(factsOf(revocation), 'revoked by an operator')
      return { revocation: encodeRevocation(revocation) }
    },

    async listRevocations (_, context) {
      await catchUp()
      const keep = authorizer.accessOf(context).filter('revocations.read', objectOf) ?? (() => true)
      const all = [...revocations.all.values()].filter(keep).toSorted((a, b) => +a.revokedAt - +b.revokedAt || (a.id < b.id ? -1 : 1))
      return { revocations: all.map(encodeRevocation) }
    },

    async liftRevocation ({ id }, context) {
      const access = authorizer.accessOf(context)
      if (access.isRestricted) await requireLift(id, access, deps)
      const revocation = await shown(store.revocations.lift(id))
      context.log.warn({ ...factsOf(revocation), liftedBy: nameOf(context.caller) }, 'a revocation was lifted by an operator')
      return { revocation: encodeRevocation(revocation) }
    }
  }
}

function objectOf ({ kind, subject }: Pick<Revocation, 'kind' | 'subject'>) { return { kind: 'revocation' as const, of: kind, subject } }

/** What a revocation is about never changes, so that it can be looked at before. */
async function requireLift (id: string, access: AdminAccess, { revocations, catchUp }: RevocationDeps): Promise<void> {
  await catchUp()
  const revocation = revocations.all.get(id)
  const covered = (verb: 'revocations.read' | 'revocations.lift') => revocation !== undefined && access.covers(verb, objectOf(revocation))
  if (revocation === undefined || !(covered('revocations.read') || covered('revocations.lift'))) {
    throw new SpiffeError('revocation_not_found', `no revocation ${JSON.stringify(id.slice(0, 100))}`)
  }
  access.require('revocations.lift', objectOf(revocation))
}

async function readTarget ({ svid, spiffeId, agentId, until }: RevokeRequest, deps: RevocationDeps): Promise<RevocationTarget> {
  const now = deps.clock.now().getTime()
  if (until !== 0n && spiffeId === undefined) throw new SpiffeError('argument_invalid', 'until is for SPIFFE IDs only')
  if (svid !== undefined) return await readSvid(svid, deps)
  if (spiffeId !== undefined) {
    const subject = decodeSpiffeId(spiffeId)
    refuseInfrastructure(subject, deps.trustDomain)
    const usual = () => new Date(now + longestTtl(subject, deps) * 1000 + signedMeanwhileMs)
    return { kind: 'spiffe_id', subject, until: until === 0n ? usual() : untilOf(until, now) }
  }
  if (agentId === undefined) throw new SpiffeError('argument_invalid', 'nothing to revoke is named')
  const subject = parseAgentId(spiffeIdText(agentId), deps.trustDomain)
  return { kind: 'node', subject, until: new Date(now + deps.agentTtlSeconds * 1000) }
}

async function readSvid (target: SvidTarget, deps: RevocationDeps): Promise<RevocationTarget> {
  const svid = target.certificate === undefined ? await findSvid(target, deps) : readCertificate(target.certificate)
  refuseInfrastructure(svid.subject, deps.trustDomain)
  if (svid.notAfter <= deps.clock.now()) {
    throw new SpiffeError('argument_invalid', `the certificate expired at ${svid.notAfter.toISOString()}: nobody accepts it`)
  }
  return { kind: 'svid', ...svid }
}

function readCertificate (der: Uint8Array) {
  const { uriSans, notAfter, isCa } = parseCertificate(der)
  const [uri, ...more] = uriSans
  if (isCa || uri === undefined || more.length > 0) {
    throw new SpiffeError('argument_invalid', 'the certificate is no leaf with one SPIFFE ID; of authorities see `assay localauthority`')
  }
  return { subject: parseSpiffeId(uri), digest: hash('sha256', der), notAfter }
}

async function findSvid ({ digest, serialNumber }: SvidTarget, { store: { issuedSvids } }: RevocationDeps) {
  if (digest === undefined && serialNumber === undefined) {
    throw new SpiffeError('argument_invalid', 'one of certificate, digest and serial number is required')
  }
  const [found, ...more] = digest === undefined ? await withSerial(serialNumber ?? '', issuedSvids) : await withDigest(digest, issuedSvids)
  if (found === undefined) {
    throw new SpiffeError('svid_not_recorded', 'the record of what was issued has no such certificate that has not expired')
  }
  if (more.length > 0) throw new SpiffeError('argument_invalid', 'several certificates have this serial number; name one by its digest')
  return { subject: found.spiffeId, digest: found.digest, notAfter: found.notAfter }
}

async function withDigest (digest: Uint8Array, issued: IssuedSvidStore) {
  if (digest.length !== 32) throw new SpiffeError('argument_invalid', `a SHA-256 digest has 32 bytes, not ${digest.length}`)
  const found = await issued.findByDigest(Buffer.from(digest).toString('hex'))
  return found === undefined ? [] : [found]
}

/** As certificates show them: with colons, in capitals, with leading zeros. */
async function withSerial (text: string, issued: IssuedSvidStore) {
  const serialNumber = text.replaceAll(':', '').toLowerCase().replace(/^0+(?=.)/, '')
  if (!/^[0-9a-f]{1,40}$/.test(serialNumber)) throw new SpiffeError('argument_invalid', `serial number ${JSON.stringify(text)} is not hex`)
  return await issued.findBySerial(serialNumber)
}

/** Of what can have been signed for an ID a moment ago. */
function longestTtl (id: SpiffeId, { registry, defaultX509SvidTtlSeconds, defaultJwtSvidTtlSeconds }: RevocationDeps): number {
  let longest = Math.max(defaultX509SvidTtlSeconds, defaultJwtSvidTtlSeconds)
  registry.someEntry(id, ({ x509SvidTtlSeconds, jwtSvidTtlSeconds }) => {
    longest = Math.max(longest, x509SvidTtlSeconds, jwtSvidTtlSeconds)
    return false
  })
  return longest
}

function untilOf (seconds: bigint, now: number): Date {
  const until = new Date(Number(seconds) * 1000)
  if (!(until.getTime() > now)) throw new SpiffeError('argument_invalid', 'until is not in the future')
  return until
}

function refuseInfrastructure (id: SpiffeId, trustDomain: TrustDomain): void {
  if (isAgentId(id)) throw new SpiffeError('argument_invalid', `${id} is an agent's: revoke its node, with all that was issued to it`)
  if (id !== serverIdOf(trustDomain)) return
  throw new SpiffeError('argument_invalid', `${id} is the servers' own: revoking it would cut the agents off; rotate its authority instead`)
}

function factsOf ({ id, kind, subject, certificateDigests, reason, expiresAt }: Revocation): object {
  return { revocation: id, kind, subject, certificates: certificateDigests.length, reason, expires: expiresAt.toISOString() }
}

function encodeRevocation (revocation: Revocation): RevocationRecordInit {
  const { certificateDigests, revokedAt, expiresAt, ...same } = revocation
  return {
    ...same,
    certificateDigests: certificateDigests.map(hex => Buffer.from(hex, 'hex')),
    revokedAt: unixSeconds(revokedAt, Math.floor),
    expiresAt: unixSeconds(expiresAt, Math.ceil)
  }
}

function unixSeconds (date: Date, round: (seconds: number) => number): number { return round(date.getTime() / 1000) }
