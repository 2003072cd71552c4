import type { MintedX509Ca, UpstreamAuthority, UpstreamTrust, X509CaOrder } from '../../src/ca/upstream-authority.ts'
import { Watchable } from '../../src/runtime/watchable.ts'
import type { JwtAuthority } from '../../src/spiffe/bundle.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { createCaCertificate, type CaCertificateOptions } from '../../src/x509/ca-certificate.ts'
import { parseCertificateRequest } from '../../src/x509/certificate-request.ts'
import { createTestCa, type TestCa } from './ca-files.ts'

/** An upstream at hand: what it signs with, what it says, and how it fails, are a test's to set. */
export class FakeUpstream implements UpstreamAuthority {
  /** The CA that signs, then those above it without the root. */
  issuers: readonly TestCa[]
  roots: readonly TestCa[]
  jwtKeys: readonly JwtAuthority[] = []
  failure: Error | undefined
  /** Of what is minted. */
  overrides: Partial<CaCertificateOptions> = {}
  /** Spoils an answer. */
  spoil: (minted: MintedX509Ca) => MintedX509Ca = minted => minted
  minted = 0
  readonly trust = new Watchable<UpstreamTrust | undefined>(undefined)
  readonly #now: () => Date

  constructor (root: TestCa, now: () => Date) {
    this.issuers = [root]
    this.roots = [root]
    this.#now = now
  }

  static async open (now: () => Date): Promise<FakeUpstream> {
    return new FakeUpstream(await createTestCa({
      notBefore: new Date(now().getTime() - 1000), notAfter: new Date(now().getTime() + 100 * 86_400_000)
    }), now)
  }

  async mintX509Ca ({ csr, ttlSeconds }: X509CaOrder): Promise<MintedX509Ca> {
    if (this.failure !== undefined) throw this.failure
    this.minted++
    const [issuer] = this.issuers as readonly [TestCa]
    const now = this.#now().getTime()
    const ca = await createCaCertificate({
      trustDomain: parseTrustDomain('example.org'), signer: { publicKey: parseCertificateRequest(csr).publicKey }, issuer,
      notBefore: new Date(now), notAfter: new Date(now + ttlSeconds * 1000), ...this.overrides
    })
    const between = this.issuers.filter(issuer => !this.roots.includes(issuer))
    return this.spoil({
      chain: [ca, ...between.map(({ certificate }) => certificate.raw)],
      roots: this.roots.map(({ certificate }) => ({ certificate: certificate.raw, tainted: false }))
    })
  }

  async * watch (signal: AbortSignal): AsyncGenerator<UpstreamTrust> {
    for await (const trust of this.trust.watch(signal)) if (trust !== undefined) yield trust
  }

  async publishJwtKey (key: JwtAuthority): Promise<readonly JwtAuthority[]> {
    if (this.failure !== undefined) throw this.failure
    this.jwtKeys = [...this.jwtKeys, key]
    return this.jwtKeys
  }

  async [Symbol.asyncDispose] (): Promise<void> {}
}
