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
import { AuthoritySlots, type AuthorityDeps, type AuthorityRecords } from './authority-slots.ts'
import type { AuthorityKind, AuthorityWriter } from './authority-record.ts'
import { jwtProfile, type JwtKey } from './jwt-authority.ts'
import { OwnBundle, type BundleJournal } from './own-bundle.ts'
import { ReplicaIntermediate } from './replica-intermediate.ts'
import { backdateSeconds, x509Profile, type HeldRoot } from './x509-authority.ts'

export interface CertificateAuthorityOptions {
  readonly trustDomain: TrustDomain
  readonly caTtlSeconds: number
  readonly caKeyType: KeyType
  readonly caSubject: CaSubject
  readonly jwtKeyType: KeyType
  readonly jwtIssuer?: string | undefined
  readonly disableJwtSvids: boolean
  /** Sign with an intermediate of this process instead of the root itself: where replicas share the root. */
  readonly intermediate?: { readonly usualTtlSeconds: number } | undefined
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
  /** DER, leaf first, then this replica's intermediate if there is one; without the self-signed root. */
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
  readonly #x509: AuthoritySlots<HeldRoot>
  readonly #jwt: AuthoritySlots<JwtKey> | undefined
  readonly #intermediate: ReplicaIntermediate | undefined

  private constructor (options: CertificateAuthorityOptions, deps: AuthorityDeps,
    x509: AuthoritySlots<HeldRoot>, jwt: AuthoritySlots<JwtKey> | undefined) {
    this.bundle = deps.bundle
    this.#options = options
    this.#deps = deps
    this.#x509 = x509
    this.#jwt = jwt
    if (options.intermediate === undefined) return
    this.#intermediate = new ReplicaIntermediate({
      trustDomain: options.trustDomain, keyType: options.caKeyType, subject: options.caSubject, clock: deps.clock, ...options.intermediate
    })
  }

  /** Takes over what the journal and the keys hold; before the first `rotateIfDue` a new trust domain has no authority. */
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

  /** Whether X509-SVIDs, and where they are not disabled JWT-SVIDs, can be signed now. */
  get ready (): boolean {
    const now = this.#deps.clock.now()
    return [this.#x509, this.#jwt].every(slots => slots === undefined || (slots.records.active?.notAfter ?? now) > now)
  }

  /** Of what signs X509-SVIDs. */
  get keyType (): KeyType { return this.#options.caKeyType }

  /** Of what signs JWT-SVIDs. */
  get jwtKeyType (): KeyType { return this.#options.jwtKeyType }

  /** Whether the key of JWT-SVIDs is elsewhere: signing then waits for an answer and costs next to nothing here. */
  get jwtKeyIsRemote (): boolean { return this.#jwt !== undefined && this.#jwt.active.signer.signSync === undefined }

  get jwtDisabled (): boolean { return this.#jwt === undefined }

  get x509Records (): AuthorityRecords { return this.#x509.records }

  /** @throws {SpiffeError} `jwt_disabled` */
  get jwtRecords (): AuthorityRecords { return this.slots('jwt').records }

  /** @throws {SpiffeError} `jwt_disabled` */
  slots (kind: AuthorityKind): Pick<AuthoritySlots<unknown>, 'records' | 'prepare' | 'activate' | 'taint' | 'revoke'> {
    const slots = kind === 'x509' ? this.#x509 : this.#jwt
    if (slots === undefined) throw new SpiffeError('jwt_disabled', 'JWT functionality is disabled')
    return slots
  }

  /** Another replica changed the authorities. */
  async reload (): Promise<void> {
    await this.#x509.reload()
    await this.#jwt?.reload()
  }

  /** Signs leaves valid from 10 s ago for their ttl, cut at the CA's end. Large batches are spread over the thread pool. */
  async issueX509Svids (orders: readonly X509SvidOrder[]): Promise<IssuedX509Svid[]> {
    if (orders.length === 0) return []
    const now = this.#deps.clock.now().getTime()
    const { leafIssuer, above } = await this.#issuerUntil(new Date(now + Math.max(...orders.map(order => order.ttlSeconds)) * 1000))
    const notBefore = new Date(now - backdateSeconds * 1000)
    const signHere = leafIssuer.issueSync !== undefined && orders.length <= (signHereUpTo[this.#options.caKeyType] ?? 0)
    return Promise.all(orders.map(async ({ id, publicKey, dnsNames, ttlSeconds, subject }) => {
      const notAfter = earlier(new Date(now + ttlSeconds * 1000), leafIssuer.issuer.notAfter)
      const serialNumber = randomBytes(16)
      const request = { id, publicKey, dnsNames, notBefore, notAfter, serialNumber, ...(subject === undefined ? {} : { subject }) }
      const leaf = signHere && leafIssuer.issueSync !== undefined ? leafIssuer.issueSync(request) : await leafIssuer.issue(request)
      const chain = [leaf, ...above]
      return { id, chain, notAfter: wholeSeconds(notAfter), serialNumber: serialNumber.toString('hex').replace(/^0+/, '') }
    }))
  }

  /** The root itself, or this replica's intermediate below it. */
  async #issuerUntil (until: Date): Promise<{ readonly leafIssuer: LeafIssuer, readonly above: readonly Uint8Array[] }> {
    const root = this.#x509.active
    if (this.#intermediate === undefined) return { leafIssuer: root.leafIssuer, above: [] }
    const { leafIssuer, certificate } = await this.#intermediate.issuerUnder(root, until)
    return { leafIssuer, above: [certificate] }
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
  async rotateIfDue (writer: AuthorityWriter): Promise<void> {
    await this.#x509.rotateIfDue(writer)
    await this.#jwt?.rotateIfDue(writer)
    const expired = new Date(this.#deps.clock.now().getTime() - pruneGraceSeconds * 1000)
    const prune = (bundle: Bundle) => pruneExpired(bundle, expired, der => parseCertificate(der).notAfter)
    if (prune(this.bundle.value) !== this.bundle.value) this.bundle.show(await writer.journal.save([], prune))
  }
}

function earlier (a: Date, b: Date): Date { return a < b ? a : b }

/** Certificates and tokens carry whole seconds. */
function wholeSeconds (date: Date): Date { return new Date(Math.floor(date.getTime() / 1000) * 1000) }
