import type { BundleSink } from '../../src/federation/client/bundle-sink.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import type { TrustDomain } from '../../src/spiffe/trust-domain.ts'

/** Stores in memory, and remembers what was written. */
export class FakeSink implements BundleSink {
  readonly bundles = new Map<TrustDomain, Bundle>()
  readonly written: Bundle[] = []
  /** Thrown by the next update, once it would write. */
  failure: Error | undefined

  constructor (...bundles: readonly Bundle[]) {
    for (const bundle of bundles) this.bundles.set(bundle.trustDomain, bundle)
  }

  async stored (trustDomain: TrustDomain): Promise<Bundle | undefined> { return this.bundles.get(trustDomain) }

  async update (trustDomain: TrustDomain, decide: (stored: Bundle | undefined) => Bundle | undefined): Promise<Bundle | undefined> {
    const replacement = decide(this.bundles.get(trustDomain))
    if (this.failure !== undefined) throw this.failure
    if (replacement !== undefined) {
      this.bundles.set(trustDomain, replacement)
      this.written.push(replacement)
    }
    return this.bundles.get(trustDomain)
  }
}
