import { randomBytes } from 'node:crypto'
import type { Bundle } from '../spiffe/bundle.ts'
import { pruneExpired } from '../spiffe/bundle-change.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import { issueJwtSvid } from '../jwt/issue-jwt-svid.ts'
import { parseCertificate } from '../x509/certificate.ts'
import type { CaSubject } from '../x509/ca-certificate.ts'
import type { KeyType } from '../x509/key-type.ts'
import type { LeafIssuer } from '../x509/leaf-issuer.ts'
import { AuthoritySlots, type AuthorityDeps } from './authority-slots.ts'
import type { AuthorityRecord } from './authority-record.ts'
import { jwtProfile, type JwtKey } from './jwt-authority.ts'
import { OwnBundle, type BundleJournal } from './own-bundle.ts'
import { backdateSeconds, x509Profile } from './x509-authority.ts'

export interface CertificateAuthorityOptions {
  readonly trustDomain: TrustDomain
  readonly caTtlSeconds: number
  readonly caKeyType: KeyType
  readonly caSubject: CaSubject
  readonly jwtKeyType: KeyType
  readonly jwtIssuer?: string | undefined
  readonly disableJwtSvids: boolean
}

export interface X509SvidOrder {
  readonly id: SpiffeId
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKey: Uint8Array
  readonly dnsNames: readonly string[]
  readonly ttlSeconds: number
  /** A DER Name to use instead of the default subject. */
  readonly subject?: Uint8Array | undefined
}

export interface IssuedX509Svid {
  readonly id: SpiffeId
  /** DER, leaf first, without the self-signed root. */
  readonly chain: readonly Uint8Array[]
  readonly notAfter: Date
  /** Lower-case hex, as in `Certificate.serialNumber`. */
  readonly serialNumber: string
}

export interface JwtSvidOrder {
  readonly id: SpiffeId
  readonly audience: readonly string[]
  readonly ttlSeconds: number
  readonly jti?: string | undefined
}

export interface IssuedJwtSvid {
  readonly id: SpiffeId
  readonly token: string
  readonly issuedAt: Date
  readonly expiresAt: Date
}

/**
 * Leaves of one batch that are signed on this thread. A P-256 leaf takes some 40 us here, and more by way of the thread pool, so only
 * batches that would hold up other calls for milliseconds go there; with other keys every signature does.
 */
const signHereUpTo: Readonly<Partial<Record<KeyType, number>>> = { 'ec-p256': 64 }
/** A retired key stays published this long after its end, for validators whose clock runs behind. */
const pruneGraceSeconds = 600

/** Everything that signs for the trust domain, and the bundle that verifies it. */
export class CertificateAuthority {
  readonly bundle: OwnBundle
  readonly #options: CertificateAuthorityOptions
  readonly #deps: AuthorityDeps
  readonly #x509: AuthoritySlots<LeafIssuer>
  readonly #jwt: AuthoritySlots<JwtKey> | undefined

  private constructor (options: CertificateAuthorityOptions, deps: AuthorityDeps,
    x509: AuthoritySlots<LeafIssuer>, jwt: AuthoritySlots<JwtKey> | undefined) {
    this.bundle = deps.bundle
    this.#options = options
    this.#deps = deps
    this.#x509 = x509
    this.#jwt = jwt
  }

  /** Opens or makes the trust domain's authorities; when it returns, it can sign. */
  static async open (options: CertificateAuthorityOptions,
    { bundles, ...rest }: Omit<AuthorityDeps, 'bundle'> & { readonly bundles: BundleJournal }): Promise<CertificateAuthority> {
    const deps = { ...rest, bundle: await OwnBundle.open(options.trustDomain, bundles) }
    const lifetimeSeconds = options.caTtlSeconds
    const x509 = await AuthoritySlots.open(x509Profile({
      trustDomain: options.trustDomain, keyType: options.caKeyType, lifetimeSeconds, subject: options.caSubject
    }), deps)
    const jwt = options.disableJwtSvids
      ? undefined
      : await AuthoritySlots.open(jwtProfile({ keyType: options.jwtKeyType, lifetimeSeconds }), deps)
    return new CertificateAuthority(options, deps, x509, jwt)
  }

  get x509Records (): { active: AuthorityRecord | undefined, prepared: AuthorityRecord | undefined } {
    return { active: this.#x509.activeRecord, prepared: this.#x509.preparedRecord }
  }

  get jwtRecords (): { active: AuthorityRecord | undefined, prepared: AuthorityRecord | undefined } {
    return { active: this.#jwt?.activeRecord, prepared: this.#jwt?.preparedRecord }
  }

  /** Signs leaves valid from 10 s ago for their ttl, cut at the CA's end. Large batches are spread over the thread pool. */
  async issueX509Svids (orders: readonly X509SvidOrder[]): Promise<IssuedX509Svid[]> {
    const issuer = this.#x509.active
    const now = this.#deps.clock.now().getTime()
    const notBefore = new Date(now - backdateSeconds * 1000)
    const signHere = issuer.issueSync !== undefined && orders.length <= (signHereUpTo[this.#options.caKeyType] ?? 0)
    return Promise.all(orders.map(async ({ id, publicKey, dnsNames, ttlSeconds, subject }) => {
      const notAfter = earlier(new Date(now + ttlSeconds * 1000), issuer.issuer.notAfter)
      const serialNumber = randomBytes(16)
      const request = { id, publicKey, dnsNames, notBefore, notAfter, serialNumber, ...(subject === undefined ? {} : { subject }) }
      const leaf = signHere && issuer.issueSync !== undefined ? issuer.issueSync(request) : await issuer.issue(request)
      return { id, chain: [leaf], notAfter: wholeSeconds(notAfter), serialNumber: serialNumber.toString('hex').replace(/^0+/, '') }
    }))
  }

  async issueX509Svid (order: X509SvidOrder): Promise<IssuedX509Svid> {
    return (await this.issueX509Svids([order]))[0] as IssuedX509Svid
  }

  /** @throws {SpiffeError} `jwt_disabled` */
  async issueJwtSvid ({ id, audience, ttlSeconds, jti }: JwtSvidOrder): Promise<IssuedJwtSvid> {
    if (this.#jwt === undefined) throw new SpiffeError('jwt_disabled', 'JWT functionality is disabled')
    const key = this.#jwt.active
    const issuedAt = wholeSeconds(this.#deps.clock.now())
    const expiresAt = wholeSeconds(earlier(new Date(issuedAt.getTime() + ttlSeconds * 1000), key.notAfter))
    const issuer = this.#options.jwtIssuer
    const token = await issueJwtSvid({
      id, audience, issuedAt, expiresAt, ...(issuer === undefined ? {} : { issuer }), ...(jti === undefined ? {} : { jti })
    }, key)
    return { id, token, issuedAt, expiresAt }
  }

  /** One look at the clock: prepares and activates authorities that are due, and takes expired ones out of the bundle. */
  async rotateIfDue (): Promise<void> {
    await this.#x509.rotateIfDue()
    await this.#jwt?.rotateIfDue()
    const expired = new Date(this.#deps.clock.now().getTime() - pruneGraceSeconds * 1000)
    await this.bundle.update((current: Bundle) => pruneExpired(current, expired, der => parseCertificate(der).notAfter))
  }
}

function earlier (a: Date, b: Date): Date { return a < b ? a : b }

/** Certificates and tokens carry whole seconds. */
function wholeSeconds (date: Date): Date { return new Date(Math.floor(date.getTime() / 1000) * 1000) }
