import { Pool } from 'undici'
import { SpiffeError } from '../../spiffe/errors.ts'
import { isJsonObject, parseStrictJsonObject, type JsonObject } from '../../spiffe/strict-json.ts'

export interface VaultHttpOptions {
  /** `https://host:port`, without a path. */
  readonly address: string
  readonly namespace?: string | undefined
  readonly tls?: {
    /** PEM. */
    readonly ca?: string | undefined
    readonly cert?: string | undefined
    /** PEM. Secret. */
    readonly key?: string | undefined
    readonly rejectUnauthorized?: boolean | undefined
  } | undefined
}

export interface VaultAnswer { readonly status: number, readonly body: JsonObject, readonly errors: readonly string[] }

/** A key with its metadata takes some 2 KiB. */
const maxBytes = 64 * 1024
const connections = 32

/** Vault's HTTP API. Requests and what they carry are in no message and no cause: they hold tokens. */
export class VaultHttp implements AsyncDisposable {
  readonly #pool: Pool
  readonly #headers: Readonly<Record<string, string>>

  constructor ({ address, namespace, tls = {} }: VaultHttpOptions) {
    this.#pool = new Pool(new URL(address).origin, {
      connections, maxResponseSize: maxBytes, connect: { ...withoutUndefined(tls), minVersion: 'TLSv1.2', timeout: 5_000 }
    })
    this.#headers = namespace === undefined ? {} : { 'x-vault-namespace': namespace }
  }

  /**
   * @param path below `/v1/`, encoded
   * @returns answers with status 2xx, 400 and 404; an empty body is an empty object
   * @throws {SpiffeError} `key_service_*`
   */
  async ask (method: 'GET' | 'POST' | 'DELETE', path: string, signal: AbortSignal,
    { token, body }: { readonly token?: string, readonly body?: object } = {}): Promise<VaultAnswer> {
    const { status, text, retryAfter } = await this.#send(method, path, signal, token, body)
    if (status >= 300 && status < 400) {
      throw new SpiffeError('key_service_malformed', 'vault answers with a redirect; give the address that it leads to')
    }
    const answer = readAnswer(status, text)
    if ((status >= 200 && status < 300) || status === 400 || status === 404) return answer
    throw refusalOf(answer, retryAfter)
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.#pool.destroy() }

  async #send (method: 'GET' | 'POST' | 'DELETE', path: string, signal: AbortSignal, token: string | undefined, body: object | undefined) {
    try {
      const response = await this.#pool.request({
        method,
        path: `/v1/${path}`,
        signal,
        headers: {
          ...this.#headers,
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
      if (code === 'UND_ERR_RES_EXCEEDED_MAX_SIZE') throw malformed(`longer than ${maxBytes} bytes`)
      if (code?.startsWith('HPE_') === true) throw malformed('no HTTP')
      throw new SpiffeError('key_service_unreachable', `vault cannot be reached: ${message || code || 'no reason given'}`)
    }
  }
}

export function malformed (what: string): SpiffeError {
  return new SpiffeError('key_service_malformed', `vault's answer is ${what}`)
}

/** @returns an object inside an answer; empty when it is none */
export function member (object: JsonObject, name: string): JsonObject {
  const value = object[name]
  return isJsonObject(value) ? value : {}
}

/** What Vault said, shortened to what a log line can bear. */
export function describeAnswer ({ status, errors }: VaultAnswer): string {
  const said = errors.join('; ').replaceAll(/[^ -~]+/g, ' ').trim().slice(0, 200)
  return said === '' ? `status ${status}` : `status ${status}: ${said}`
}

function readAnswer (status: number, text: Uint8Array): VaultAnswer {
  if (text.length === 0) return { status, body: {}, errors: [] }
  try {
    const body = parseStrictJsonObject(text, { maxLength: maxBytes })
    const errors = Array.isArray(body['errors']) ? body['errors'].filter(error => typeof error === 'string') : []
    return { status, body, errors }
  } catch {
    // A proxy in between answers in HTML.
    if (status >= 400) return { status, body: {}, errors: [] }
    throw malformed('not one JSON object')
  }
}

function refusalOf (answer: VaultAnswer, retryAfterSeconds: number): SpiffeError {
  const why = `vault refuses with ${describeAnswer(answer)}`
  switch (answer.status) {
    case 401: case 403: return new SpiffeError('key_service_refused', why)
    case 429: {
      const seconds = Number.isFinite(retryAfterSeconds) && retryAfterSeconds > 0 ? Math.min(retryAfterSeconds, 60) : undefined
      return new SpiffeError('key_service_throttled', why, seconds === undefined ? {} : { retryAfterMs: seconds * 1_000 })
    }
    case 503: return new SpiffeError(answer.errors.some(error => /sealed/i.test(error)) ? 'key_service_sealed' : 'key_service_failed', why)
    default: return new SpiffeError(answer.status >= 500 ? 'key_service_failed' : 'key_service_malformed', why)
  }
}

function withoutUndefined<T extends object> (object: T): Partial<T> {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as Partial<T>
}
