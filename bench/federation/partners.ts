import { setMaxListeners } from 'node:events'
import { serveBundleEndpoint } from '../../src/federation/endpoint/serve-bundle-endpoint.ts'
import { svidCertificate } from '../../src/rpc/svid-certificate.ts'
import type { ServingCertificate } from '../../src/rpc/serving-certificate.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { encodeBundle } from '../../src/wire/bundle-codec.ts'
import type { FederationRelationshipInit } from '../../src/wire/generated/types.ts'
import { createTestAuthority } from '../../test/fakes/authority.ts'
import { createWebCa } from '../../test/federation/web-ca.ts'

export type Profile = 'https_web' | 'https_spiffe'

export interface PartnersOptions {
  readonly count: number
  readonly profile: Profile
  readonly refreshHintSeconds: number
}

/** One partner's bundle: an authority that stays, one that is exchanged at each rotation, and a JWT key. */
export class Partner {
  /** How often the endpoint was asked. */
  asked = 0
  readonly #bundles: readonly [Bundle, Bundle]
  #value: Bundle
  #answered: ((at: number) => void) | undefined

  constructor (bundles: readonly [Bundle, Bundle], sequenceNumber = 1n) {
    this.#bundles = bundles
    this.#value = { ...bundles[0], sequenceNumber }
  }

  /** As the endpoint reads it, once for each request. */
  get value (): Bundle {
    this.asked++
    this.#answered?.(Date.now())
    return this.#value
  }

  get bundle (): Bundle { return this.#value }

  /** @returns when the endpoint is first asked for the new bundle: Unix milliseconds */
  rotate (): Promise<number> {
    const { sequenceNumber = 0n } = this.#value
    this.#value = { ...this.#bundles[Number(sequenceNumber % 2n)] as Bundle, sequenceNumber: sequenceNumber + 1n }
    return new Promise(resolve => { this.#answered = resolve })
  }
}

/** Trust domains that serve their bundles from this process, each at an endpoint of its own. */
export class Partners implements AsyncDisposable {
  /** PEM: who certified the endpoints of `https_web`. */
  readonly webRoot: string
  readonly all: readonly Partner[]
  readonly urls: readonly string[]
  readonly #profile: Profile
  readonly #scope: AsyncDisposableStack

  private constructor (
    webRoot: string, profile: Profile, served: readonly { readonly partner: Partner, readonly url: string }[], scope: AsyncDisposableStack
  ) {
    this.webRoot = webRoot
    this.#profile = profile
    this.all = served.map(({ partner }) => partner)
    this.urls = served.map(({ url }) => url)
    this.#scope = scope
  }

  static async open ({ count, profile, refreshHintSeconds }: PartnersOptions): Promise<Partners> {
    await using scope = new AsyncDisposableStack()
    const stop = new AbortController()
    setMaxListeners(0, stop.signal)
    const webCa = await createWebCa()
    const certified = await webCa.certify()
    const running: Promise<void>[] = []
    scope.defer(async () => {
      stop.abort()
      await Promise.all(running)
    })
    const served = []
    for (let index = 0; index < count; index++) {
      const { partner, svid } = await makePartner(`partner-${index}.test`)
      const certificate: ServingCertificate = profile === 'https_web' ? { current: () => certified } : svidCertificate(() => svid)
      const listening = Promise.withResolvers<number>()
      const serving = serveBundleEndpoint({ host: '127.0.0.1', port: 0, refreshHintSeconds }, {
        bundle: partner, certificate, clock: systemClock, log: silentLogger, onListening: ({ port }) => listening.resolve(port)
      }, stop.signal)
      serving.catch(listening.reject)
      running.push(serving)
      served.push({ partner, url: `https://127.0.0.1:${await listening.promise}/` })
    }
    return new Partners(webCa.root, profile, served, scope.move())
  }

  get trustDomains (): string[] { return this.all.map(({ bundle }) => bundle.trustDomain) }
  /** Of all endpoints together. */
  get asked (): number { return this.all.reduce((sum, { asked }) => sum + asked, 0) }

  /** What makes a server follow them. */
  relationships (): FederationRelationshipInit[] {
    return this.all.map(({ bundle }, index) => {
      const { trustDomain } = bundle
      const common = { trustDomain, bundleEndpointUrl: this.urls[index] }
      return this.#profile === 'https_web'
        ? { ...common, httpsWeb: {} }
        : { ...common, httpsSpiffe: { endpointSpiffeId: `spiffe://${trustDomain}/spire/server` }, trustDomainBundle: encodeBundle(bundle) }
    })
  }

  rotateAll (): void { for (const partner of this.all) void partner.rotate() }

  async [Symbol.asyncDispose] (): Promise<void> { await this.#scope.disposeAsync() }
}

async function makePartner (trustDomain: string) {
  const authority = await createTestAuthority(trustDomain)
  const next = async () => (await createTestAuthority(trustDomain)).bundle.x509Authorities
  const withAuthorities = async (): Promise<Bundle> =>
    ({ ...authority.bundle, x509Authorities: [...authority.bundle.x509Authorities, ...await next()] })
  return {
    partner: new Partner([await withAuthorities(), await withAuthorities()]),
    svid: await authority.issue('/spire/server')
  }
}
