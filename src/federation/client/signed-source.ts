import type { Clock } from '../../runtime/clock.ts'
import type { Bundle } from '../../spiffe/bundle.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import { readSignedBundle } from '../signed-bundle/read-signed-bundle.ts'
import type { DocumentPlace } from './document-place.ts'
import { defaultFetchLimits } from './fetch-limits.ts'
import type { Offer, PartnerSource } from './partner-source.ts'

export interface SignedSourceDeps {
  /** What is in force of the domain now, as far as is known here. */
  readonly lastGood: () => Promise<Bundle | undefined>
  readonly clock: Pick<Clock, 'now'>
}

/** A copy that the partner signed: it may lie where others can write, since only the partner can make one (ADR 0027). */
export class SignedSource implements PartnerSource {
  readonly name: string
  readonly offeredBy = 'copy'
  readonly #place: DocumentPlace
  readonly #trustDomain: TrustDomain
  readonly #deps: SignedSourceDeps
  #noted: Uint8Array | undefined

  constructor (place: DocumentPlace, trustDomain: TrustDomain, deps: SignedSourceDeps) {
    this.name = place.name
    this.#place = place
    this.#trustDomain = trustDomain
    this.#deps = deps
  }

  /**
   * Checks it anew each time: it may have expired, or another bundle be in force.
   * @throws {SpiffeError} as `readSignedBundle`; of the place
   */
  async fetch (signal: AbortSignal): Promise<Offer> {
    const bytes = await this.#place.read(signal)
    const vouching = { lastGood: await this.#deps.lastGood(), at: this.#deps.clock.now() }
    const notes: string[] = []
    const note = (text: string) => { if (notes.length < 10) notes.push(text) }
    const bundle = readSignedBundle(bytes, this.#trustDomain, defaultFetchLimits, vouching, note)
    const isKnown = this.#noted === bytes
    this.#noted = bytes
    return { bundle, notes: isKnown ? [] : notes }
  }
}
