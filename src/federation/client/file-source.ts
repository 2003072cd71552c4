import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import { FilePlace } from './document-place.ts'
import { defaultFetchLimits, type FetchLimits } from './fetch-limits.ts'
import type { Offer, PartnerSource } from './partner-source.ts'
import { readFetched } from './read-fetched.ts'

/**
 * A file with the partner's bundle as it publishes it, for when its endpoint cannot be reached. Who may write there decides whom we trust.
 */
export class FileSource implements PartnerSource {
  readonly name: string
  readonly offeredBy = 'copy'
  readonly #trustDomain: TrustDomain
  readonly #place: FilePlace
  readonly #limits: FetchLimits

  constructor (path: string, trustDomain: TrustDomain, limits: Partial<FetchLimits> = {}) {
    this.name = path
    this.#trustDomain = trustDomain
    this.#limits = { ...defaultFetchLimits, ...limits }
    this.#place = new FilePlace(path, this.#limits)
  }

  /** @throws {SpiffeError} `file_unusable`, `fetched_bundle_malformed`, `fetched_bundle_too_large` */
  async fetch (_signal: AbortSignal): Promise<Offer> {
    const notes: string[] = []
    const note = (text: string) => { if (notes.length < 10) notes.push(text) }
    const bundle = readFetched(await this.#place.read(), this.#trustDomain, this.#limits, note)
    return { bundle, notes }
  }
}
