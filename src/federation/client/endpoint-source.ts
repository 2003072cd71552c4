import type { BundleEndpoint } from '../../spiffe/bundle-endpoint.ts'
import { fetchBundle, type FetchedBundle } from './fetch-bundle.ts'
import { shownUrl, type FetchDeps } from './fetch-document.ts'
import type { OfferedBy } from './judge-update.ts'
import type { Offer, PartnerSource } from './partner-source.ts'

/** The partner's own endpoint, or a mirror of it, which proves who it is in one of the two profiles as well. */
export class EndpointSource implements PartnerSource {
  readonly name: string
  readonly offeredBy: OfferedBy
  readonly #endpoint: BundleEndpoint
  readonly #deps: FetchDeps
  /** Offered again when the endpoint says that it is still the newest: an operator may have stored another meanwhile (FED-08). */
  #last: FetchedBundle | undefined

  /** @param offeredBy `copy` for a mirror */
  constructor (endpoint: BundleEndpoint, deps: FetchDeps, offeredBy: OfferedBy = 'endpoint') {
    this.name = shownUrl(endpoint)
    this.offeredBy = offeredBy
    this.#endpoint = endpoint
    this.#deps = deps
  }

  async fetch (signal: AbortSignal): Promise<Offer> {
    const fetched = await fetchBundle(this.#endpoint, { ...this.#deps, last: this.#last }, signal)
    this.#last = fetched
    return { bundle: fetched.bundle, notes: fetched.unchanged ? [] : fetched.skipped }
  }
}
