import { createHash, randomBytes } from 'node:crypto'
import type { Clock } from '../runtime/clock.ts'
import type { Bundle } from '../spiffe/bundle.ts'
import { trustDomainId } from '../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import { appendAuthorities, removeX509Authority, taintX509Authority } from '../spiffe/bundle-change.ts'
import { createCaCertificate, encodeCaSubject, type CaSubject } from '../x509/ca-certificate.ts'
import { signCertificateRequest } from '../x509/certificate-request.ts'
import { parseCertificate, splitCertificates, type Certificate } from '../x509/certificate.ts'
import type { KeyType } from '../x509/key-type.ts'
import { prepareLeafIssuer, type LeafIssuer } from '../x509/leaf-issuer.ts'
import type { Signer } from '../x509/signer.ts'
import type { AuthorityRecord, AuthorityWriter, Slot } from './authority-record.ts'
import type { AuthorityProfile } from './authority-slots.ts'
import type { Composition } from './composition.ts'
import { checkMinted, roomBelow } from './check-minted.ts'
import type { UpstreamAuthority } from './upstream-authority.ts'
import { subjectKeyIdOf, type UpstreamRoots } from './upstream-roots.ts'

/** Clocks of validators may run behind ours. */
export const backdateSeconds = 10
/** An upstream may be a person's laptop away; nothing waits for longer. */
export const upstreamTimeoutMs = 30_000

export interface X509AuthorityOptions {
  readonly trustDomain: TrustDomain
  readonly keyType: KeyType
  readonly lifetimeSeconds: number
  readonly subject: CaSubject
  /** Signs the CA; without one it is its own root. */
  readonly upstream: UpstreamAuthority | undefined
  readonly upstreamRoots: UpstreamRoots
  readonly composition: Composition | undefined
}

/** A CA at hand: it signs leaves, or intermediates that do. */
export interface HeldRoot {
  readonly leafIssuer: LeafIssuer
  readonly certificate: Certificate
  readonly signer: Signer
  /** DER; what follows in a chain that it signs: itself and those up to the upstream's root, or nothing where it is the root. */
  readonly above: readonly Uint8Array[]
  /** How many CAs may stand between it and a leaf. */
  readonly room: number
  /** The soonest end on the way to the root. */
  readonly notAfter: Date
}

/** A CA per slot, self-signed or signed by the upstream (ID-16, ID-17; profile of the CA certificate: `createCaCertificate`). */
export function x509Profile (options: X509AuthorityOptions): AuthorityProfile<HeldRoot> {
  const { keyType, lifetimeSeconds, upstream, upstreamRoots } = options
  return {
    kind: 'x509',
    keyType,
    lifetimeSeconds,
    keyId: slot => `x509-CA-${slot}`,
    create: (key, slot, clock, writer) => upstream === undefined
      ? signSelf(key, slot, clock.now(), options)
      : askUpstream({ key, slot, clock, writer, upstream }, options),
    isCurrent: record => (record.upstreamAuthorityId === undefined) === (upstream === undefined),
    hold (record, signer) {
      const chain = chainOf(record).map(der => parseCertificate(der))
      const [certificate] = chain as [Certificate, ...Certificate[]]
      const roots = upstreamRoots.withKey(record.upstreamAuthorityId ?? '').flatMap(({ certificate }) => certificate ?? [])
      const rooms = (roots.length > 0 ? roots.map(der => [parseCertificate(der)]) : [[]]).map(root => roomBelow([...chain, ...root]))
      return {
        leafIssuer: prepareLeafIssuer(certificate, signer), certificate, signer, notAfter: record.notAfter,
        above: record.upstreamAuthorityId === undefined ? [] : chain.map(({ raw }) => raw), room: Math.min(...rooms)
      }
    },
    publish: (bundle: Bundle, record) => record.upstreamAuthorityId === undefined
      ? appendAuthorities(bundle, { x509Authorities: [{ certificate: certificateOf(record), tainted: false }] })
      : upstreamRoots.publish(bundle),
    taint: (bundle, record) => taintX509Authority(bundle, certificateOf(record)),
    withdraw: (bundle, record) => record.upstreamAuthorityId === undefined ? removeX509Authority(bundle, certificateOf(record)) : bundle,
    appended (bundle, authorityId) {
      // An upstream's roots have commands of their own.
      if (upstreamRoots.withKey(authorityId).length > 0) return undefined
      const found = bundle.x509Authorities.find(({ certificate }) => subjectKeyIdOf(parseCertificate(certificate)) === authorityId)
      if (found === undefined) return undefined
      const { notBefore, notAfter, publicKey } = parseCertificate(found.certificate)
      const state = found.tainted ? 'tainted' : 'old'
      return { authorityId, kind: 'x509', slot: 'A', state, certificate: found.certificate, publicKey, notBefore, notAfter }
    }
  }
}

async function signSelf (
  key: Signer, slot: Slot, now: Date, { trustDomain, subject, lifetimeSeconds, composition }: X509AuthorityOptions
): Promise<AuthorityRecord> {
  const notBefore = new Date(now.getTime() - backdateSeconds * 1000)
  const notAfter = new Date(now.getTime() + lifetimeSeconds * 1000)
  const composed = await composition?.ca(subject)
  const certificate = await createCaCertificate({ trustDomain, signer: key, subject, ...composed, notBefore, notAfter })
  const { subjectKeyId } = parseCertificate(certificate)
  const authorityId = Buffer.from(subjectKeyId ?? createHash('sha1').update(key.publicKey).digest()).toString('hex')
  return { authorityId, kind: 'x509', slot, state: 'prepared', certificate, publicKey: key.publicKey, notBefore, notAfter }
}

interface UpstreamOrder {
  readonly key: Signer
  readonly slot: Slot
  readonly clock: Clock
  readonly writer: AuthorityWriter
  readonly upstream: UpstreamAuthority
}

/** The upstream's roots are published first: a root without a CA below it harms nobody. */
async function askUpstream (
  { key, slot, clock, writer, upstream }: UpstreamOrder,
  { trustDomain, subject, lifetimeSeconds, upstreamRoots, composition }: X509AuthorityOptions
): Promise<AuthorityRecord> {
  const composed = await composition?.ca(subject)
  const csr = await signCertificateRequest(key, {
    subjectDer: composed?.subject ?? encodeCaSubject(subject, randomBytes(16)), uriSans: [trustDomainId(trustDomain)],
    extensions: composed?.requestExtensions
  })
  const minted = await upstream.mintX509Ca({ csr, ttlSeconds: lifetimeSeconds }, AbortSignal.timeout(upstreamTimeoutMs))
  const { certificate, path, notAfter } = await checkMinted(minted, { key, trustDomain, clock })
  await upstreamRoots.apply({ x509Authorities: minted.roots, jwtAuthorities: [], complete: false }, writer)
  const root = path.at(-1) as Certificate
  return {
    authorityId: subjectKeyIdOf(certificate), kind: 'x509', slot, state: 'prepared', publicKey: key.publicKey,
    certificate: Buffer.concat(path.slice(0, -1).map(({ raw }) => raw)), upstreamAuthorityId: subjectKeyIdOf(root),
    // The schedule counts from here, not from how far the upstream dates back.
    notBefore: clock.now(), notAfter
  }
}

function chainOf (record: AuthorityRecord): Uint8Array[] { return splitCertificates(certificateOf(record)) }

function certificateOf (record: AuthorityRecord): Uint8Array {
  if (record.certificate === undefined) throw new Error(`X.509 authority ${record.authorityId} has no certificate`)
  return record.certificate
}
