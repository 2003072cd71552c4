import { open } from 'node:fs/promises'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import { defaultFetchLimits, type FetchLimits } from './fetch-limits.ts'
import type { Offer, PartnerSource } from './partner-source.ts'
import { readFetched, tooLarge } from './read-fetched.ts'

/**
 * A file with the partner's bundle as it publishes it, for when its endpoint cannot be reached. Who may write there decides whom we trust.
 */
export class FileSource implements PartnerSource {
  readonly name: string
  readonly offeredBy = 'copy'
  readonly #trustDomain: TrustDomain
  readonly #limits: FetchLimits

  constructor (path: string, trustDomain: TrustDomain, limits: Partial<FetchLimits> = {}) {
    this.name = path
    this.#trustDomain = trustDomain
    this.#limits = { ...defaultFetchLimits, ...limits }
  }

  /** @throws {SpiffeError} `file_unusable`, `fetched_bundle_malformed`, `fetched_bundle_too_large` */
  async fetch (_signal: AbortSignal): Promise<Offer> {
    const notes: string[] = []
    const bundle = readFetched(await this.#read(), this.#trustDomain, this.#limits, note => { if (notes.length < 10) notes.push(note) })
    return { bundle, notes }
  }

  async #read (): Promise<Uint8Array> {
    const { maxBytes } = this.#limits
    try {
      await using file = await open(this.name)
      const found = await file.stat()
      if (!found.isFile()) throw new SpiffeError('file_unusable', `${this.name} is no file`)
      if (found.size > maxBytes) throw tooLarge(`${found.size} bytes, and at most ${maxBytes} are read`)
      return (await file.read({ buffer: Buffer.alloc(found.size) })).buffer
    } catch (cause) {
      if (cause instanceof SpiffeError) throw cause
      throw new SpiffeError('file_unusable', `${this.name} cannot be read: ${(cause as Error).message}`, { cause })
    }
  }
}
