import { open } from 'node:fs/promises'
import type { BundleEndpoint } from '../../spiffe/bundle-endpoint.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { fetchDocument, shownUrl, type FetchDeps, type FetchedDocument } from './fetch-document.ts'
import { tooLarge } from './read-fetched.ts'

/** Where a document lies of which nothing is believed yet. */
export interface DocumentPlace {
  /** For people: a URL without its query, or a path. */
  readonly name: string
  /** @throws {SpiffeError} why it cannot be had; the signal's reason when it aborts */
  read (signal: AbortSignal): Promise<Uint8Array>
}

/** An object of a store, or what a mirror serves: sent again only when it has changed (`ETag`), and kept until then. */
export class EndpointPlace implements DocumentPlace {
  readonly name: string
  readonly #endpoint: BundleEndpoint
  readonly #deps: FetchDeps
  #last: FetchedDocument<Uint8Array> & { readonly content: Uint8Array } | undefined

  constructor (endpoint: BundleEndpoint, deps: FetchDeps) {
    this.name = shownUrl(endpoint)
    this.#endpoint = endpoint
    this.#deps = deps
  }

  async read (signal: AbortSignal): Promise<Uint8Array> {
    const last = this.#last
    const order = { accept: 'application/jose, application/octet-stream;q=0.9, */*;q=0.1', last, read: (bytes: Uint8Array) => bytes }
    const { content, ...where } = await fetchDocument(this.#endpoint, order, this.#deps, signal)
    if (content !== undefined) this.#last = { ...where, content }
    return (this.#last as { readonly content: Uint8Array }).content
  }
}

/** @param maxBytes of the file */
export class FilePlace implements DocumentPlace {
  readonly name: string
  readonly #maxBytes: number

  constructor (path: string, { maxBytes }: { readonly maxBytes: number }) {
    this.name = path
    this.#maxBytes = maxBytes
  }

  /** @throws {SpiffeError} `file_unusable`, `fetched_bundle_too_large` */
  async read (): Promise<Uint8Array> {
    try {
      await using file = await open(this.name)
      const found = await file.stat()
      if (!found.isFile()) throw new SpiffeError('file_unusable', `${this.name} is no file`)
      if (found.size > this.#maxBytes) throw tooLarge(`${found.size} bytes, and at most ${this.#maxBytes} are read`)
      return (await file.read({ buffer: Buffer.alloc(found.size) })).buffer
    } catch (cause) {
      if (cause instanceof SpiffeError) throw cause
      throw new SpiffeError('file_unusable', `${this.name} cannot be read: ${(cause as Error).message}`, { cause })
    }
  }
}
