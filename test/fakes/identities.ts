import 'reflect-metadata'
import { generateKeyPairSync, type KeyObject, webcrypto } from 'node:crypto'
import * as x509 from '@peculiar/x509'
import { Watchable } from '../../src/runtime/watchable.ts'
import type { Bundle, JwtAuthority } from '../../src/spiffe/bundle.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { normalizeSelectors, formatSelector, type Selector } from '../../src/spiffe/selector.ts'
import { parseSpiffeId, trustDomainId, type SpiffeId } from '../../src/spiffe/spiffe-id.ts'
import type { JwtSvid, WorkloadIdentity, X509Svid } from '../../src/spiffe/svid.ts'
import { parseTrustDomain, type TrustDomain } from '../../src/spiffe/trust-domain.ts'

const ecdsa = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
const rsa1024 = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256', modulusLength: 1024, publicExponent: new Uint8Array([1, 0, 1]) }

/** A trust domain made by somebody else's code: a CA and a JWT key that tests hand out identities from. */
export class TestTrustDomain {
  readonly name: TrustDomain
  readonly jwtKey: { readonly keyId: string, readonly privateKey: KeyObject, readonly authority: JwtAuthority }
  readonly #keys: webcrypto.CryptoKeyPair
  readonly #root: x509.X509Certificate

  private constructor (name: TrustDomain, keys: webcrypto.CryptoKeyPair, root: x509.X509Certificate) {
    this.name = name
    this.#keys = keys
    this.#root = root
    const jwt = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const publicKey = jwt.publicKey.export({ format: 'der', type: 'spki' })
    const keyId = `${name}-key`
    this.jwtKey = { keyId, privateKey: jwt.privateKey, authority: { keyId, publicKey, tainted: false } }
  }

  static async create (name: string): Promise<TestTrustDomain> {
    const trustDomain = parseTrustDomain(name)
    const keys = await webcrypto.subtle.generateKey(ecdsa, true, ['sign', 'verify'])
    const root = await x509.X509CertificateGenerator.createSelfSigned({
      keys,
      name: 'CN=root',
      notBefore: new Date(Date.now() - 60_000),
      notAfter: new Date(Date.now() + 86_400_000),
      signingAlgorithm: ecdsa,
      extensions: [
        new x509.BasicConstraintsExtension(true, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
        new x509.SubjectAlternativeNameExtension([{ type: 'url', value: trustDomainId(trustDomain) }]),
        await x509.SubjectKeyIdentifierExtension.create(keys.publicKey)
      ]
    })
    return new TestTrustDomain(trustDomain, keys, root)
  }

  get root (): Uint8Array { return new Uint8Array(this.#root.rawData) }

  get bundle (): Bundle {
    return {
      trustDomain: this.name,
      x509Authorities: [{ certificate: this.root, tainted: false }],
      jwtAuthorities: [this.jwtKey.authority]
    }
  }

  /** @returns DER of a leaf certificate for a key that may be somebody else's */
  async certify (
    publicKey: webcrypto.CryptoKey, names: x509.JsonGeneralNames,
    { notBefore, notAfter }: { readonly notBefore: Date, readonly notAfter: Date }
  ): Promise<Uint8Array> {
    const leaf = await x509.X509CertificateGenerator.create({
      subject: 'O=test',
      issuer: this.#root.subjectName,
      publicKey,
      signingKey: this.#keys.privateKey,
      signingAlgorithm: ecdsa,
      notBefore,
      notAfter,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension(['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2']),
        new x509.SubjectAlternativeNameExtension(names),
        await x509.SubjectKeyIdentifierExtension.create(publicKey),
        await x509.AuthorityKeyIdentifierExtension.create(this.#keys.publicKey)
      ]
    })
    return new Uint8Array(leaf.rawData)
  }

  /** With names that an X509-SVID must not have. */
  async issueNamed (names: x509.JsonGeneralNames): Promise<Pick<X509Svid, 'chain' | 'privateKey'>> {
    const keys = await webcrypto.subtle.generateKey(ecdsa, true, ['sign', 'verify'])
    const [notBefore, notAfter] = [new Date(Date.now() - 30_000), new Date(Date.now() + 3_600_000)]
    const leaf = await this.certify(keys.publicKey, names, { notBefore, notAfter })
    return { chain: [leaf], privateKey: new Uint8Array(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey)) }
  }

  /** @param options `weak`: with an RSA key of 1024 bits, consistent in itself, but Envoy refuses it */
  async issue (path: string, options: { hint?: string, notAfter?: Date, weak?: boolean } = {}): Promise<X509Svid> {
    const id = parseSpiffeId(`spiffe://${this.name}${path}`)
    const keys = await webcrypto.subtle.generateKey(options.weak === true ? rsa1024 : ecdsa, true, ['sign', 'verify'])
    const notBefore = new Date(Math.floor(Date.now() / 1000) * 1000 - 30_000)
    const notAfter = options.notAfter ?? new Date(notBefore.getTime() + 3_600_000)
    const leaf = await this.certify(keys.publicKey, [{ type: 'url', value: id }], { notBefore, notAfter })
    const privateKey = new Uint8Array(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey))
    return { id, chain: [leaf], privateKey, notBefore, notAfter, hint: options.hint ?? '' }
  }
}

/** One state of one workload. */
export function identityOf (own: Bundle, svids: readonly X509Svid[], federated: readonly Bundle[] = [], revision = 1): WorkloadIdentity {
  return { svids, bundle: own, federatedBundles: new Map(federated.map(bundle => [bundle.trustDomain, bundle])), revision }
}

/** Identities set by the test, one watchable state per set of selectors; callers with unknown selectors have none. */
export class FakeIdentities {
  /** Watches that are open now. */
  watchers = 0
  /** What `fetchJwtSvids` was asked for. */
  readonly jwtRequests: { readonly audience: readonly string[], readonly id: SpiffeId | undefined }[] = []
  jwtSvids: readonly JwtSvid[] = []
  readonly #bundle: Bundle
  readonly #states = new Map<string, Watchable<WorkloadIdentity>>()

  constructor (bundle: Bundle) { this.#bundle = bundle }

  set (selectors: readonly Selector[], identity: WorkloadIdentity): void { this.#state(selectors).set(identity) }

  async * watch (selectors: readonly Selector[], signal: AbortSignal): AsyncGenerator<WorkloadIdentity, void, undefined> {
    this.watchers++
    try {
      yield * this.#state(selectors).watch(signal)
    } finally {
      this.watchers--
    }
  }

  async fetchJwtSvids (
    _selectors: readonly Selector[], audience: readonly string[], id: SpiffeId | undefined
  ): Promise<readonly JwtSvid[]> {
    this.jwtRequests.push({ audience, id })
    const svids = this.jwtSvids.filter(svid => id === undefined || svid.id === id)
    if (svids.length === 0) throw new SpiffeError('no_identity_issued', 'no identity issued')
    return svids
  }

  #state (selectors: readonly Selector[]): Watchable<WorkloadIdentity> {
    const key = normalizeSelectors(selectors).map(formatSelector).join(' ')
    const state = this.#states.get(key) ?? new Watchable(identityOf(this.#bundle, []))
    this.#states.set(key, state)
    return state
  }
}
