import { readFile, stat } from 'node:fs/promises'
import type { Clock } from '../../runtime/clock.ts'
import { writeFileAtomically } from '../../runtime/atomic-file.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { BundleSource, OfferedBundle } from './bundle-source.ts'
import { archiveLimits } from './tar-archive.ts'

export interface HttpSourceOptions {
  readonly url: string
  /** Asked for at each request, so that it may be renewed. */
  readonly bearerToken?: (() => string | Promise<string>) | undefined
  /** Where the last good bundle is kept; `undefined`: nowhere. */
  readonly persistPath?: string | undefined
  /** Between these is drawn at random how long to wait, in milliseconds. Default 10000 and 20000. */
  readonly minPollMs?: number | undefined
  readonly maxPollMs?: number | undefined
  /** Of a request with its answer. Default 30000. */
  readonly timeoutMs?: number | undefined
  readonly clock: Clock
  /** From 0 to 1. */
  readonly random: () => number
}

/** Fetches a bundle, again only when its ETag has changed (RFC 9110 §13.1.2). */
export class HttpSource implements BundleSource {
  readonly #options: HttpSourceOptions
  #etag: string | undefined

  constructor (options: HttpSourceOptions) { this.#options = options }

  nextPollMs (): number {
    const { minPollMs = 10_000, maxPollMs = 20_000, random } = this.#options
    return minPollMs + random() * Math.max(0, maxPollMs - minPollMs)
  }

  async poll (signal: AbortSignal): Promise<OfferedBundle | undefined> {
    const { clock, timeoutMs = 30_000 } = this.#options
    const over = new AbortController()
    const stop = AbortSignal.any([signal, over.signal])
    clock.sleep(timeoutMs, stop).then(() => over.abort(new Error(`no answer within ${timeoutMs} ms`)), () => undefined)
    try {
      return await this.#fetch(stop)
    } catch (error) {
      if (error instanceof SpiffeError || signal.aborted) throw error
      const { message, cause } = error as Error
      throw unavailable(`${this.#options.url}: ${cause instanceof Error ? cause.message : message}`, error)
    } finally {
      over.abort()
    }
  }

  async restore (): Promise<Uint8Array | undefined> {
    const { persistPath } = this.#options
    if (persistPath === undefined) return undefined
    try {
      const { size } = await stat(persistPath)
      return size > archiveLimits.maxCompressed ? undefined : await readFile(persistPath)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw new SpiffeError('file_unusable', `${persistPath} cannot be read`, { cause: error })
    }
  }

  async #fetch (signal: AbortSignal): Promise<OfferedBundle | undefined> {
    const { url, bearerToken } = this.#options
    const headers = new Headers({ accept: 'application/gzip, application/octet-stream, application/vnd.openpolicyagent.bundles' })
    if (bearerToken !== undefined) headers.set('authorization', `Bearer ${await bearerToken()}`)
    if (this.#etag !== undefined) headers.set('if-none-match', this.#etag)
    const response = await fetch(url, { headers, signal })
    if (response.status === 304 && this.#etag !== undefined) return undefined
    if (response.status !== 200) {
      await response.body?.cancel()
      throw unavailable(`${url} answers ${response.status}`)
    }
    const bytes = await readBody(response, url)
    const etag = response.headers.get('etag') ?? undefined
    return { bytes, accept: () => this.#accept(bytes, etag) }
  }

  /** Only then: a bundle that is refused is asked for again, since its server may correct it under the same name. */
  async #accept (bytes: Uint8Array, etag: string | undefined): Promise<void> {
    this.#etag = etag
    const { persistPath } = this.#options
    if (persistPath !== undefined) await writeFileAtomically(persistPath, bytes, { mode: 0o600 })
  }
}

async function readBody (response: Response, url: string): Promise<Uint8Array> {
  const pieces: Uint8Array[] = []
  let length = 0
  for await (const piece of response.body ?? []) {
    pieces.push(piece as Uint8Array)
    length += (piece as Uint8Array).length
    if (length > archiveLimits.maxCompressed) {
      throw new SpiffeError('rego_bundle_invalid', `${url} sends more than ${archiveLimits.maxCompressed} bytes`)
    }
  }
  return Buffer.concat(pieces)
}

function unavailable (rule: string, cause?: unknown): SpiffeError { return new SpiffeError('rego_bundle_unavailable', rule, { cause }) }
