import { generateKeyPairSync, type KeyObject } from 'node:crypto'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { parseSpiffeId, spiffeIdOf, type SpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { parseTrustDomain, type TrustDomain } from '../../src/spiffe/trust-domain.ts'
import { issueJwtSvid } from '../../src/jwt/issue-jwt-svid.ts'
import { createCaCertificate, type CaSubject } from '../../src/x509/ca-certificate.ts'
import { parseCertificate, type Certificate } from '../../src/x509/certificate.ts'
import type { KeyType } from '../../src/x509/key-type.ts'
import { prepareLeafIssuer, type LeafRequest } from '../../src/x509/leaf-issuer.ts'
import { signerOf } from '../../src/x509/private-key-signer.ts'
import type { Signer } from '../../src/x509/signer.ts'

export interface TestAuthorityOptions {
  readonly keyType?: KeyType
  readonly jwtKeyType?: KeyType
  readonly jwtKeyId?: string
  /** One minute ago by default. */
  readonly notBefore?: Date
  /** One day from now by default. */
  readonly notAfter?: Date
  /** A Name in DER when it is to be another CA's to the byte. */
  readonly subject?: CaSubject | Uint8Array
  readonly pathLength?: number
  /** Makes an intermediate: its certificate is in the chains it issues, the issuer's bundle is its bundle. */
  readonly issuer?: TestAuthority
}

export interface TestIssueOptions extends Partial<Omit<LeafRequest, 'id' | 'publicKey'>> {
  /** Of the workload; P-256 by default. */
  readonly keyType?: KeyType
}

/** By default issued now, for five minutes. */
export interface TestJwtOptions { readonly issuedAt?: Date, readonly expiresAt?: Date, readonly jti?: string }

export interface TestSvid {
  readonly id: SpiffeId
  /** DER, leaf first, without the root. */
  readonly chain: readonly Uint8Array[]
  /** PKCS#8, DER. */
  readonly privateKey: Uint8Array
  readonly notBefore: Date
  readonly notAfter: Date
}

export interface TestAuthority {
  readonly trustDomain: TrustDomain
  readonly certificate: Certificate
  readonly signer: Signer
  readonly jwtKey: { readonly keyId: string, readonly signer: Signer }
  /** Of the root, with this authority's JWT key. */
  readonly bundle: Bundle
  /** For `verifyX509Svid` and `validateJwtSvid`: this domain's bundle and no other. */
  readonly bundleOf: (trustDomain: TrustDomain) => Bundle | undefined
  /** What this authority puts behind a leaf. */
  readonly intermediates: readonly Uint8Array[]
  /** @param id a SPIFFE ID, or a path in this trust domain */
  issue (id: string, options?: TestIssueOptions): Promise<TestSvid>
  issueJwt (id: string, audience: readonly string[], options?: TestJwtOptions): Promise<string>
}

/** A ready-made trust domain: a CA, a JWT key, and what they sign. Keys are made anew each time. */
export async function createTestAuthority (name: string, options: TestAuthorityOptions = {}): Promise<TestAuthority> {
  const trustDomain = parseTrustDomain(name)
  const signer = signerOf(makeTestKey(options.keyType))
  const { subject, pathLength, issuer } = options
  const notBefore = options.notBefore ?? fromNow(-60)
  const notAfter = options.notAfter ?? issuer?.certificate.notAfter ?? fromNow(86_400)
  const certificate = parseCertificate(await createCaCertificate({
    trustDomain, signer, notBefore, notAfter,
    ...subject === undefined ? {} : { subject },
    ...pathLength === undefined ? {} : { pathLength },
    ...issuer === undefined ? {} : { issuer: { certificate: issuer.certificate, signer: issuer.signer } }
  }))
  const jwtKey = { keyId: options.jwtKeyId ?? `${name}-jwt`, signer: signerOf(makeTestKey(options.jwtKeyType)) }
  const bundle: Bundle = {
    trustDomain,
    x509Authorities: issuer?.bundle.x509Authorities ?? [{ certificate: certificate.raw, tainted: false }],
    jwtAuthorities: [{ keyId: jwtKey.keyId, publicKey: jwtKey.signer.publicKey, tainted: false }]
  }
  const intermediates = issuer === undefined ? [] : [certificate.raw, ...issuer.intermediates]
  const leaves = prepareLeafIssuer(certificate, signer)
  const idOf = (text: string) => text.startsWith('/') ? spiffeIdOf(trustDomain, text) : parseSpiffeId(text)

  return {
    trustDomain,
    certificate,
    signer,
    jwtKey,
    bundle,
    bundleOf: wanted => wanted === trustDomain ? bundle : undefined,
    intermediates,
    async issue (text, { keyType, ...overrides } = {}) {
      const key = makeTestKey(keyType)
      const id = idOf(text)
      const leaf = parseCertificate(await leaves.issue({
        id,
        publicKey: signerOf(key).publicKey,
        dnsNames: [],
        notBefore: notBefore > fromNow(-10) ? notBefore : fromNow(-10),
        notAfter: notAfter < fromNow(3600) ? notAfter : fromNow(3600),
        ...overrides
      }))
      return { id, chain: [leaf.raw, ...intermediates], privateKey: exportPkcs8(key), notBefore: leaf.notBefore, notAfter: leaf.notAfter }
    },
    issueJwt (text, audience, { issuedAt = fromNow(0), expiresAt = fromNow(300), jti } = {}) {
      return issueJwtSvid({ id: idOf(text), audience, issuedAt, expiresAt, ...jti === undefined ? {} : { jti } }, jwtKey)
    }
  }
}

/** A private key; P-256 by default. */
export function makeTestKey (type: KeyType = 'ec-p256'): KeyObject {
  const [kind, size] = type.split('-') as ['ec' | 'rsa', string]
  return kind === 'ec'
    ? generateKeyPairSync('ec', { namedCurve: size.replace('p', 'P-') }).privateKey
    : generateKeyPairSync('rsa', { modulusLength: Number(size) }).privateKey
}

function exportPkcs8 (key: KeyObject): Uint8Array { return new Uint8Array(key.export({ format: 'der', type: 'pkcs8' })) }

/** To the second, as certificates have it. */
function fromNow (seconds: number): Date { return new Date((Math.floor(Date.now() / 1000) + seconds) * 1000) }
