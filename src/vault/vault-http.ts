import { readFile } from 'node:fs/promises'
import type { Pool } from 'undici'
import { foreignWords } from '../runtime/foreign-words.ts'
import { SpiffeError, type ErrorCode } from '../spiffe/errors.ts'
import { isJsonObject, parseStrictJsonObject, type JsonObject } from '../spiffe/strict-json.ts'

/** How a call can end without an answer that is of use. */
export type VaultFailure = 'unreachable' | 'sealed' | 'throttled' | 'failed' | 'refused' | 'malformed'

/** What each failure is called by whoever asks: a key manager or an upstream authority. */
export type VaultCodes = Readonly<Record<VaultFailure, ErrorCode>>

export interface VaultHttpOptions {
  /** `http:` or `https:`; its path comes before `/v1/`. */
  readonly url: URL
  readonly namespace?: string | undefined
  /** PEM file of who may sign Vault's certificate; the web's authorities unless given. */
  readonly caPath?: string | undefined
  /** PEM files that are shown in TLS. */
  readonly client?: { readonly certificatePath: string, readonly keyPath: string } | undefined
  readonly skipVerify?: boolean | undefined
  readonly codes: VaultCodes
  /** Of one answer. */
  readonly maxBytes?: number | undefined
}

export interface VaultAnswer { readonly status: number, readonly body: JsonObject, readonly errors: readonly string[] }

/** A key with its metadata takes some 2 KiB. */
const usualMaxBytes = 64 * 1024
const connections = 32

/** Vault's HTTP API. Requests and what they carry are in no message and no cause: they hold tokens. */
export class VaultHttp implements AsyncDisposable {
  readonly codes: VaultCodes
  readonly #options: VaultHttpOptions
  readonly #maxBytes: number
  #pool: Pool | undefined
  /** PEM of the files as the pool has them. */
  #files: readonly (string | undefined)[] = []
  /** Whether the files may have changed. */
  #doubtful = true

  constructor (options: VaultHttpOptions) {
    this.codes = options.codes
    this.#options = options
    this.#maxBytes = options.maxBytes ?? usualMaxBytes
  }

  /**
   * @param path below `/v1/`, encoded
   * @returns answers with status 2xx, 400 and 404; an empty body is an empty object
   * @throws {SpiffeError} of `codes`, `file_unusable`; when the signal aborts, its reason
   */
  async ask (method: 'GET' | 'POST' | 'DELETE', path: string, signal: AbortSignal,
    { token, body }: { readonly token?: string, readonly body?: object } = {}): Promise<VaultAnswer> {
    const { status, text, retryAfter } = await this.#send(method, path, signal, token, body)
    if (status >= 300 && status < 400) throw this.refusal('malformed', 'vault answers with a redirect; give the address that it leads to')
    const answer = this.#readAnswer(status, text)
    if ((status >= 200 && status < 300) || status === 400 || status === 404) return answer
    throw this.#refusalOf(answer, retryAfter)
  }

  refusal (failure: VaultFailure, message: string, options: { readonly retryAfterMs?: number } = {}): SpiffeError {
    return new SpiffeError(this.codes[failure], message, options)
  }

  malformed (what: string): SpiffeError { return this.refusal('malformed', `vault's answer is ${what}`) }

  /** Reads the files of TLS again; connections are made anew when one has changed. @throws {SpiffeError} `file_unusable` */
  async refresh (): Promise<void> {
    const { caPath, client, skipVerify, url } = this.#options
    const paths = [caPath, client?.certificatePath, client?.keyPath]
    const reading = paths.map(async path => path === undefined ? undefined : await readText(path))
    const [{ Pool }, files] = await Promise.all([import('undici'), Promise.all(reading)])
    this.#doubtful = false
    if (this.#pool !== undefined && files.every((pem, index) => pem === this.#files[index])) return
    const before = this.#pool
    const [ca, cert, key] = files
    const tls = withoutUndefined({ ca, cert, key, rejectUnauthorized: skipVerify === true ? false : undefined })
    this.#pool = new Pool(url.origin, {
      connections, maxResponseSize: this.#maxBytes, connect: { ...tls, minVersion: 'TLSv1.2', timeout: 5_000 }
    })
    this.#files = files
    // Calls under way go on.
    void before?.close()
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.#pool?.destroy() }

  async #send (method: 'GET' | 'POST' | 'DELETE', path: string, signal: AbortSignal, token: string | undefined, body: object | undefined) {
    if (this.#doubtful) await this.refresh()
    const { namespace, url } = this.#options
    try {
      const response = await (this.#pool as Pool).request({
        method,
        path: `${url.pathname.replace(/\/+$/, '')}/v1/${path}`,
        signal,
        headers: {
          ...namespace === undefined ? {} : { 'x-vault-namespace': namespace },
          'x-vault-request': 'true',
          ...token === undefined ? {} : { 'x-vault-token': token },
          ...body === undefined ? {} : { 'content-type': 'application/json' }
        },
        ...body === undefined ? {} : { body: JSON.stringify(body) }
      })
      const text = new Uint8Array(await response.body.arrayBuffer())
      return { status: response.statusCode, text, retryAfter: Number(response.headers['retry-after']) }
    } catch (error) {
      signal.throwIfAborted()
      const { code, message } = error as NodeJS.ErrnoException
      if (code === 'UND_ERR_RES_EXCEEDED_MAX_SIZE') throw this.malformed(`longer than ${this.#maxBytes} bytes`)
      if (code?.startsWith('HPE_') === true) throw this.malformed('no HTTP')
      this.#doubtful = true
      throw this.refusal('unreachable', `vault cannot be reached: ${message || code || 'no reason given'}`)
    }
  }

  #readAnswer (status: number, text: Uint8Array): VaultAnswer {
    if (text.length === 0) return { status, body: {}, errors: [] }
    try {
      const body = parseStrictJsonObject(text, { maxLength: this.#maxBytes })
      const errors = Array.isArray(body['errors']) ? body['errors'].filter(error => typeof error === 'string') : []
      return { status, body, errors }
    } catch {
      // A proxy in between answers in HTML.
      if (status >= 400) return { status, body: {}, errors: [] }
      throw this.malformed('not one JSON object')
    }
  }

  #refusalOf (answer: VaultAnswer, retryAfterSeconds: number): SpiffeError {
    const why = `vault refuses with ${describeAnswer(answer)}`
    switch (answer.status) {
      case 401: case 403: return this.refusal('refused', why)
      case 429: {
        const seconds = Number.isFinite(retryAfterSeconds) && retryAfterSeconds > 0 ? Math.min(retryAfterSeconds, 60) : undefined
        return this.refusal('throttled', why, seconds === undefined ? {} : { retryAfterMs: seconds * 1_000 })
      }
      case 503: return this.refusal(answer.errors.some(error => /sealed/i.test(error)) ? 'sealed' : 'failed', why)
      default: return this.refusal(answer.status >= 500 ? 'failed' : 'malformed', why)
    }
  }
}

/** @returns an object inside an answer; empty when it is none */
export function member (object: JsonObject, name: string): JsonObject {
  const value = object[name]
  return isJsonObject(value) ? value : {}
}

/** What Vault said, shortened to what a log line can bear. */
export function describeAnswer ({ status, errors }: VaultAnswer): string {
  const said = foreignWords(errors.join('; '), 200)
  return said === '' ? `status ${status}` : `status ${status}: ${said}`
}

async function readText (path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    throw new SpiffeError('file_unusable', `cannot read ${path}: ${(error as Error).message}`, { cause: error })
  }
}

function withoutUndefined<T extends object> (object: T): Partial<T> {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as Partial<T>
}
