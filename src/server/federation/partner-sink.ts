import type { BundleSink } from '../../federation/client/bundle-sink.ts'
import type { Bundle } from '../../spiffe/bundle.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { Stores } from '../../storage/datastore.ts'

export interface PartnerSinkDeps {
  /** Asked at each use. @throws {SpiffeError} when this process may not write now */
  readonly stores: () => Pick<Stores, 'bundles' | 'federation'>
  /** Of the configuration: no operator can end the relationship while this process runs. */
  readonly fixed: boolean
  /** Shows on this replica what was stored. */
  readonly catchUp: () => Promise<void>
}

/** Where a server puts fetched bundles: into the database, from which every replica and its agents have them. */
export class PartnerSink implements BundleSink {
  readonly #deps: PartnerSinkDeps

  constructor (deps: PartnerSinkDeps) { this.#deps = deps }

  stored (trustDomain: TrustDomain): Promise<Bundle | undefined> { return this.#deps.stores().bundles.get(trustDomain) }

  async update (
    trustDomain: TrustDomain, decide: (stored: Bundle | undefined) => Bundle | undefined
  ): Promise<Bundle | undefined> {
    const { bundles, federation } = this.#deps.stores()
    let wrote = false
    const change = (current: Bundle | undefined): Bundle => {
      const next = decide(current)
      if (next === undefined && current === undefined) throw new Error('a first bundle must be taken or refused')
      wrote = next !== undefined
      return next ?? current as Bundle
    }
    const after = await (this.#deps.fixed ? bundles.update(trustDomain, change) : federation.updateBundle(trustDomain, change))
    if (wrote) await this.#deps.catchUp()
    return after
  }
}
