import { createHash } from 'node:crypto'
import { formatBundleDocument } from '../../spiffe/bundle-document.ts'
import type { Bundle } from '../../spiffe/bundle.ts'
import type { OwnBundleSource } from './own-bundle-source.ts'

export interface PublishedDocument {
  readonly body: Buffer
  /** Strong: another one for each other content. */
  readonly etag: string
}

/** What the endpoint sends, made once for each bundle. */
export class Publication {
  readonly #source: OwnBundleSource
  readonly #refreshHintSeconds: number
  #made: { readonly from: Bundle, readonly document: PublishedDocument } | undefined

  /** @param refreshHintSeconds for a bundle without one (TDB-08) */
  constructor (source: OwnBundleSource, refreshHintSeconds: number) {
    this.#source = source
    this.#refreshHintSeconds = refreshHintSeconds
  }

  /** @returns `undefined` when there is no bundle yet */
  current (): PublishedDocument | undefined {
    const bundle = this.#source.value
    if (bundle === undefined) return undefined
    if (this.#made?.from !== bundle) this.#made = { from: bundle, document: this.#make(bundle) }
    return this.#made.document
  }

  #make (bundle: Bundle): PublishedDocument {
    const { refreshHintSeconds = this.#refreshHintSeconds } = bundle
    const body = Buffer.from(formatBundleDocument({ ...bundle, refreshHintSeconds }))
    return { body, etag: `"${createHash('sha256').update(body).digest('base64url')}"` }
  }
}
