import type { Bundle, JwtAuthority } from '../spiffe/bundle.ts'
import { appendAuthorities, pruneExpired } from '../spiffe/bundle-change.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { timed } from '../runtime/took.ts'
import type { CredentialComposer } from '../plugins/credential-composer.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import { checkAudience } from '../jwt/audience.ts'
import { issueJwtSvid, signJwtSvid } from '../jwt/issue-jwt-svid.ts'
import { signJws, type StatementType } from '../jwt/sign-jws.ts'
import { parseCertificate } from '../x509/certificate.ts'
import { createCaCertificate, type CaSubject } from '../x509/ca-certificate.ts'
import type { KeyType } from '../x509/key-type.ts'
import { randomSerial } from '../x509/random-serial.ts'
import { AuthoritySlots, type AuthorityDeps, type AuthorityRecords } from './authority-slots.ts'
import type { AuthorityKind, AuthorityRecord, AuthorityWriter } from './authority-record.ts'
import { checkComposedClaims, checkComposedLeaf, Composition } from './composition.ts'
import { jwtProfile, type JwtKey } from './jwt-authority.ts'
import { OwnBundle, type BundleJournal } from './own-bundle.ts'
import { ReplicaIntermediate } from './replica-intermediate.ts'
import type { UpstreamAuthority, UpstreamTrust } from './upstream-authority.ts'
import { subjectKeyIdOf, UpstreamRoots } from './upstream-roots.ts'
import { backdateSeconds, upstreamTimeoutMs, x509Profile, type HeldRoot } from './x509-authority.ts'

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
  /** Signs the CA, so that the bundle holds the upstream's roots; without one the CA is its own root. */
  readonly upstream?: UpstreamAuthority | undefined
  /** Change what is signed, one after the other. */
  readonly composers?: readonly CredentialComposer[] | undefined
}

export interface DownstreamCaOrder {
  /** SubjectPublicKeyInfo, DER; its owner has proved possession already. */
  readonly publicKey: Uint8Array
  readonly ttlSeconds: number
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
  /** DER, leaf first, then the CAs above it: this replica's intermediate, what an upstream signed; without the root. */
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

interface JwtSvidDraft extends Omit<JwtSvidOrder, 'ttlSeconds'> {
  readonly issuedAt: Date
  readonly expiresAt: Date
  readonly issuer: string | undefined
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
  readonly #upstreamRoots: UpstreamRoots
  readonly #intermediate: ReplicaIntermediate | undefined
  readonly #composition: Composition | undefined

  private constructor (options: CertificateAuthorityOptions, deps: AuthorityDeps, { x509, jwt, upstreamRoots, composition }: {
    readonly x509: AuthoritySlots<HeldRoot>, readonly jwt: AuthoritySlots<JwtKey> | undefined, readonly upstreamRoots: UpstreamRoots
    readonly composition: Composition | undefined
  }) {
    this.bundle = deps.bundle
    this.#options = options
    this.#deps = deps
    this.#x509 = x509
    this.#jwt = jwt
    this.#upstreamRoots = upstreamRoots
    this.#composition = composition
    if (options.intermediate === undefined) return
    this.#intermediate = new ReplicaIntermediate({
      trustDomain: options.trustDomain, keyType: options.caKeyType, subject: options.caSubject, composition, clock: deps.clock,
      ...options.intermediate
    })
  }

  /** Takes over what the journal and the keys hold; before the first `rotateIfDue` a new trust domain has no authority. */
  static async open (options: CertificateAuthorityOptions,
    { bundles, ...rest }: Omit<AuthorityDeps, 'bundle'> & { readonly bundles: BundleJournal }): Promise<CertificateAuthority> {
    const deps = { ...rest, bundle: await OwnBundle.open(options.trustDomain, bundles) }
    const lifetimeSeconds = options.caTtlSeconds
    const { upstream, composers = [] } = options
    const composition = composers.length === 0 ? undefined : new Composition(composers)
    const upstreamRoots = await UpstreamRoots.open(deps)
    const x509 = await AuthoritySlots.open(x509Profile({
      trustDomain: options.trustDomain, keyType: options.caKeyType, lifetimeSeconds, subject: options.caSubject,
      upstream, upstreamRoots, composition
    }), deps)
    const publishAbove = upstream?.publishJwtKey && (async (key: JwtAuthority, writer: AuthorityWriter) => {
      const jwtAuthorities = await upstream.publishJwtKey?.(key, AbortSignal.timeout(upstreamTimeoutMs)) ?? []
      const own = new Set([key.keyId, ...await ownJwtKeyIds(writer)])
      await upstreamRoots.apply({ x509Authorities: [], jwtAuthorities, complete: false }, writer, own)
    })
    const jwt = options.disableJwtSvids
      ? undefined
      : await AuthoritySlots.open(jwtProfile({ keyType: options.jwtKeyType, lifetimeSeconds, publishAbove }), deps)
    return new CertificateAuthority(options, deps, { x509, jwt, upstreamRoots, composition })
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

  /** @throws {SpiffeError} `jwt_disabled` */
  requireJwt (): void { this.slots('jwt') }

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
    await this.#upstreamRoots.reload()
    await this.#x509.reload()
    await this.#jwt?.reload()
  }

  /** Signs leaves valid from 10 s ago for their ttl, cut at the CA's end. Large batches are spread over the thread pool. */
  async issueX509Svids (orders: readonly X509SvidOrder[]): Promise<IssuedX509Svid[]> {
    if (orders.length === 0) return []
    const now = this.#deps.clock.now().getTime()
    const longest = Math.max(...orders.map(order => order.ttlSeconds))
    const { leafIssuer, above, notAfter: end } = await this.#issuerUntil(new Date(now + longest * 1000))
    const notBefore = new Date(now - backdateSeconds * 1000)
    const signHere = leafIssuer.issueSync !== undefined && orders.length <= (signHereUpTo[this.#options.caKeyType] ?? 0)
    const composition = this.#composition
    const issued = await Promise.all(orders.map(async order => {
      const { id, publicKey, dnsNames, ttlSeconds, subject } = order
      const notAfter = earlier(new Date(now + ttlSeconds * 1000), end)
      const serialNumber = randomSerial()
      const request = {
        id, publicKey, dnsNames, notBefore, notAfter, serialNumber, ...(subject === undefined ? {} : { subject }),
        ...(composition === undefined ? {} : await composition.x509Svid(order))
      }
      const leaf = signHere && leafIssuer.issueSync !== undefined ? leafIssuer.issueSync(request) : await leafIssuer.issue(request)
      if (composition !== undefined) checkComposedLeaf(leaf, id)
      const chain = [leaf, ...above]
      return { id, chain, notAfter: wholeSeconds(notAfter), serialNumber: serialNumber.toString('hex').replace(/^0+/, '') }
    }))
    this.#deps.events?.signed('x509_svid', issued.length)
    return issued
  }

  /** Signs an X509-SVID that nobody gets, to see whether it can be done; it counts for nothing. Rejects when it cannot. */
  async trySigning (id: SpiffeId, publicKey: Uint8Array): Promise<void> {
    const notBefore = this.#deps.clock.now()
    const notAfter = new Date(notBefore.getTime() + 1_000)
    const { leafIssuer } = await this.#issuerUntil(notAfter)
    await leafIssuer.issue({ id, publicKey, dnsNames: [], notBefore, notAfter, serialNumber: randomSerial() })
  }

  /** The root itself, or this replica's intermediate below it. */
  async #issuerUntil (until: Date): Promise<Pick<HeldRoot, 'leafIssuer' | 'above' | 'notAfter'>> {
    const root = this.#x509.active
    // Where no CA may stand below the one that the upstream signed, it signs itself: its key is here as well.
    if (this.#intermediate === undefined || root.room < 1) return root
    const { leafIssuer, certificate } = await this.#intermediate.issuerUnder(root, until)
    return { leafIssuer, above: [certificate, ...root.above], notAfter: earlier(leafIssuer.issuer.notAfter, root.notAfter) }
  }

  /**
   * Signs a nested server's CA (spire-surface §1.6, §7.1). It lives for its ttl, cut at this CA's own end.
   * @returns DER, the new CA first; without the root
   * @throws {SpiffeError} `ca_path_exhausted`
   */
  async issueDownstreamCa ({ publicKey, ttlSeconds }: DownstreamCaOrder): Promise<readonly Uint8Array[]> {
    const { trustDomain, caSubject } = this.#options
    const root = this.#x509.active
    if (root.room < 1) {
      throw new SpiffeError('ca_path_exhausted', 'the upstream authority allows no CA below this server\'s own (path length)')
    }
    const now = this.#deps.clock.now().getTime()
    const subject = { ...caSubject, organizationalUnit: [`DOWNSTREAM-${1 + root.above.length}`] }
    const certificate = await createCaCertificate({
      trustDomain, signer: { publicKey }, issuer: root, subject, ...await this.#composition?.ca(subject),
      notBefore: new Date(now - backdateSeconds * 1000), notAfter: earlier(new Date(now + ttlSeconds * 1000), root.notAfter)
    })
    this.#deps.events?.signed('x509_ca_svid', 1)
    return [certificate, ...root.above]
  }

  async issueX509Svid (order: X509SvidOrder): Promise<IssuedX509Svid> {
    return (await this.issueX509Svids([order]))[0] as IssuedX509Svid
  }

  /** @throws {SpiffeError} `jwt_disabled` */
  async issueJwtSvid (order: JwtSvidOrder): Promise<IssuedJwtSvid> {
    const issued = await this.#signJwtSvid(order)
    this.#deps.events?.signed('jwt_svid', 1)
    return issued
  }

  async #signJwtSvid ({ id, audience, ttlSeconds, jti }: JwtSvidOrder): Promise<IssuedJwtSvid> {
    if (this.#jwt === undefined) throw new SpiffeError('jwt_disabled', 'JWT functionality is disabled')
    const key = this.#jwt.active
    const issuedAt = wholeSeconds(this.#deps.clock.now())
    const expiresAt = wholeSeconds(earlier(new Date(issuedAt.getTime() + ttlSeconds * 1000), key.notAfter))
    const issuer = this.#options.jwtIssuer
    if (this.#composition !== undefined) return await this.#composeJwtSvid({ id, audience, issuedAt, expiresAt, issuer, jti }, key)
    const token = await issueJwtSvid({
      id, audience, issuedAt, expiresAt, ...(issuer === undefined ? {} : { issuer }), ...(jti === undefined ? {} : { jti })
    }, key)
    return { id, token, issuedAt, expiresAt }
  }

  async #composeJwtSvid ({ id, audience, issuedAt, expiresAt, issuer, jti }: JwtSvidDraft, key: JwtKey): Promise<IssuedJwtSvid> {
    const draft = {
      aud: checkAudience(audience), exp: expiresAt.getTime() / 1000, iat: issuedAt.getTime() / 1000, sub: id,
      ...(issuer === undefined ? {} : { iss: issuer }), ...(jti === undefined ? {} : { jti })
    }
    const claims = await (this.#composition as Composition).jwtSvid(id, draft)
    const { iat, exp } = checkComposedClaims(claims, { id, now: issuedAt, latest: expiresAt })
    const token = await signJwtSvid({ ...claims, exp, ...(iat === undefined ? {} : { iat }) }, key)
    return { id, token, issuedAt: new Date((iat ?? draft.iat) * 1000), expiresAt: new Date(exp * 1000) }
  }

  /**
   * Has something else than a JWT-SVID signed by the active JWT key.
   * @param wanted until when it is to hold; no longer than the key does
   * @param make is given until when it holds, and what signs
   * @throws {SpiffeError} `jwt_disabled`; of `make`
   */
  async signStatement<T> (
    wanted: Date, make: (expiresAt: Date, sign: (payload: string, typ: StatementType) => Promise<string>) => Promise<T>
  ): Promise<{ readonly statement: T, readonly expiresAt: Date }> {
    if (this.#jwt === undefined) throw new SpiffeError('jwt_disabled', 'JWT functionality is disabled')
    const key = this.#jwt.active
    const expiresAt = wholeSeconds(earlier(wanted, key.notAfter))
    return { statement: await make(expiresAt, (payload, typ) => signJws(payload, typ, key)), expiresAt }
  }

  /** One look at the clock: prepares and activates authorities that are due, and takes expired ones out of the bundle. */
  async rotateIfDue (writer: AuthorityWriter): Promise<void> {
    const failures: unknown[] = []
    for (const slots of [this.#x509, this.#jwt]) {
      // An upstream that signs nothing keeps no JWT key from being replaced.
      await slots?.rotateIfDue(writer).catch((error: unknown) => { failures.push(error) })
    }
    const expired = new Date(this.#deps.clock.now().getTime() - pruneGraceSeconds * 1000)
    const prune = (bundle: Bundle) => pruneExpired(bundle, expired, der => parseCertificate(der).notAfter)
    if (prune(this.bundle.value) !== this.bundle.value) {
      const { clock, events } = this.#deps
      await timed(clock, events?.pruned, async () => this.bundle.show(await writer.journal.save([], prune)))
    }
    if (failures.length > 0) throw failures[0]
  }

  /** Whether an upstream signs, or its roots are still trusted. */
  get knowsUpstream (): boolean { return this.#options.upstream !== undefined || !this.#upstreamRoots.isEmpty }

  /** @throws {SpiffeError} `upstream_authority_signs` unless the X.509 authority of this ID is a root of its own */
  requireOwnRoot (authorityId: string, verb: 'taint' | 'revoke'): void {
    const { active, prepared, old } = this.#x509.records
    const record = [active, prepared, old].find(record => record?.authorityId === authorityId)
    if (record === undefined ? this.#options.upstream === undefined : record.upstreamAuthorityId === undefined) return
    const done = verb === 'taint' ? 'tainted' : 'revoked'
    throw new SpiffeError('upstream_authority_signs',
      `local authority can't be ${done} if there is an upstream authority: taint and revoke its root`)
  }

  /** @param subjectKeyId hex. @throws {SpiffeError} `no_upstream_authority`, `authority_unknown`, `authority_in_use` */
  async taintUpstream (subjectKeyId: string, writer: AuthorityWriter): Promise<void> {
    this.#requireUnused(subjectKeyId)
    await this.#upstreamRoots.taint(subjectKeyId, writer)
    this.#deps.log.info({ subjectKeyId }, 'upstream authority tainted')
  }

  /** Like `taintUpstream`, and `authority_not_tainted`. */
  async revokeUpstream (subjectKeyId: string, writer: AuthorityWriter): Promise<void> {
    this.#requireUnused(subjectKeyId)
    await this.#upstreamRoots.revoke(subjectKeyId, writer)
    this.#deps.log.info({ subjectKeyId }, 'upstream authority revoked')
  }

  #requireUnused (subjectKeyId: string): void {
    if (!this.knowsUpstream) throw new SpiffeError('no_upstream_authority', 'upstream authority is not configured')
    if (subjectKeyId === '') throw new SpiffeError('authority_unknown', 'no subject key ID provided')
    const { active, prepared } = this.#x509.records
    for (const record of [active, prepared]) {
      if (record?.upstreamAuthorityId !== subjectKeyId) continue
      throw new SpiffeError('authority_in_use', `the upstream authority signs the ${record.state} local authority ${record.authorityId}`)
    }
  }

  /** Publishes a nested server's JWT key, by the upstream where it can. @returns the JWT keys of the bundle then */
  async publishDownstreamJwtKey (key: JwtAuthority, writer: AuthorityWriter): Promise<Bundle['jwtAuthorities']> {
    const { upstream } = this.#options
    if (upstream?.publishJwtKey !== undefined) {
      const jwtAuthorities = await upstream.publishJwtKey(key, AbortSignal.timeout(upstreamTimeoutMs))
      await this.#upstreamRoots.apply({ x509Authorities: [], jwtAuthorities, complete: false }, writer, await ownJwtKeyIds(writer))
    }
    this.bundle.show(await writer.journal.save([], bundle => appendAuthorities(bundle, { jwtAuthorities: [key] })))
    return this.bundle.value.jwtAuthorities
  }

  /**
   * Takes over what the upstream trusts now. Where it distrusts the root above our CA, another CA is made first, so that whoever has an
   * SVID replaced gets one that is better.
   */
  async followUpstream (trust: UpstreamTrust, writer: AuthorityWriter): Promise<void> {
    const { log } = this.#deps
    const keyIds = (tainted: boolean) => new Set(trust.x509Authorities.filter(root => root.tainted === tainted)
      .map(({ certificate }) => subjectKeyIdOf(parseCertificate(certificate))))
    const [good, tainted] = [keyIds(false), keyIds(true)]
    const isLeft = ({ upstreamAuthorityId: id }: AuthorityRecord) =>
      id !== undefined && (trust.complete ? !good.has(id) : tainted.has(id))
    try {
      await this.#x509.replace(isLeft, writer)
    } catch (error) {
      log.error({ err: error }, 'the upstream distrusts the root above this CA, and signed no other; trying again')
    }
    const signing = this.#x509.records.active?.upstreamAuthorityId
    // Until another CA signs, what it signed would be replaced by the same.
    const x509Authorities = trust.x509Authorities.map(root =>
      root.tainted && subjectKeyIdOf(parseCertificate(root.certificate)) === signing ? { ...root, tainted: false } : root)
    await this.#upstreamRoots.apply({ ...trust, x509Authorities }, writer, await ownJwtKeyIds(writer))
  }
}

async function ownJwtKeyIds ({ journal }: AuthorityWriter): Promise<ReadonlySet<string>> {
  return new Set((await journal.list('jwt')).map(({ authorityId }) => authorityId))
}

function earlier (a: Date, b: Date): Date { return a < b ? a : b }

/** Certificates and tokens carry whole seconds. */
function wholeSeconds (date: Date): Date { return new Date(Math.floor(date.getTime() / 1000) * 1000) }
