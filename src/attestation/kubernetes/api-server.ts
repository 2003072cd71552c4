import { foreignWords } from '../../runtime/foreign-words.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { type JsonObject, type JsonValue, parseStrictJsonObject } from '../../spiffe/strict-json.ts'
import { type ApiAccess, readInClusterAccess } from './api-access.ts'
import { ApiConnection } from './api-connection.ts'
import { readKubeconfigAccess } from './kubeconfig.ts'

/** An object of the API is at most 1.5 MiB in the database. */
const maxBytes = 4 * 1024 * 1024
const timeoutMs = 30_000
const applyType = 'application/apply-patch+yaml'
const jsonPatchType = 'application/json-patch+json'

/** RFC 6902. */
export type JsonPatch = readonly { readonly op: 'add' | 'test', readonly path: string, readonly value: JsonValue }[]

interface Call {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE'
  readonly path: string
  /** Of the body; JSON unless given. */
  readonly type?: string | undefined
  /** JSON. */
  readonly body?: string | undefined
}

/**
 * The few calls of the Kubernetes API that a server needs, with rights that are read anew for each. Tokens and objects are in no message
 * and no cause.
 */
export class ApiServer implements AsyncDisposable {
  readonly #access: () => Promise<ApiAccess>
  readonly #connection = new ApiConnection({ maxBytes, headersTimeoutMs: timeoutMs, bodyTimeoutMs: timeoutMs })

  /** @param access throws {SpiffeError} `kubernetes_unreachable` */
  constructor (access: () => Promise<ApiAccess>) { this.#access = access }

  /** @param kubeconfig path; the cluster that this process runs in unless given */
  static of (kubeconfig: string | undefined): ApiServer {
    return new ApiServer(() => kubeconfig === undefined ? readInClusterAccess() : readKubeconfigAccess(kubeconfig))
  }

  /**
   * @param path of one object, its parts encoded
   * @returns `undefined` where there is none
   * @throws {SpiffeError} `kubernetes_unreachable`, with the `status` in its details if there was an answer
   */
  async get (path: string, signal: AbortSignal): Promise<JsonObject | undefined> {
    return await this.#ask({ method: 'GET', path }, signal)
  }

  /** @throws {SpiffeError} `kubernetes_unreachable` */
  async create (path: string, body: object, signal: AbortSignal): Promise<JsonObject> {
    const created = await this.#ask({ method: 'POST', path, body: JSON.stringify(body) }, signal)
    if (created === undefined) throw unreachable(`answers POST ${path} with status 404`, 404)
    return created
  }

  /**
   * Server-side apply: makes the object or changes the fields given, also those that another manager had.
   * @throws {SpiffeError} `kubernetes_unreachable`
   */
  async apply (path: string, body: object, { fieldManager }: { readonly fieldManager: string }, signal: AbortSignal): Promise<void> {
    const how = `?fieldManager=${encodeURIComponent(fieldManager)}&force=true`
    const applied = await this.#ask({ method: 'PATCH', path: path + how, type: applyType, body: JSON.stringify(body) }, signal)
    // Of the namespace.
    if (applied === undefined) throw unreachable(`answers PATCH ${path} with status 404`)
  }

  /** Changes an object that is there; where it is not there any more, nothing. @throws {SpiffeError} `kubernetes_unreachable` */
  async patch (path: string, patch: JsonPatch, signal: AbortSignal): Promise<void> {
    await this.#ask({ method: 'PATCH', path, type: jsonPatchType, body: JSON.stringify(patch) }, signal)
  }

  /** Of an object that is gone already, nothing. @throws {SpiffeError} `kubernetes_unreachable` */
  async delete (path: string, signal: AbortSignal): Promise<void> { await this.#ask({ method: 'DELETE', path }, signal) }

  async [Symbol.asyncDispose] (): Promise<void> { await this.#connection[Symbol.asyncDispose]() }

  async #ask ({ method, path, type, body }: Call, signal: AbortSignal): Promise<JsonObject | undefined> {
    const access = await this.#access()
    const { origin, pathname } = access.server
    const { status, bytes } = await this.#send(access, { origin, path: pathname.replace(/\/$/, '') + path, method, type, body }, signal)
    if (status === 404) return undefined
    const answer = readAnswer(bytes)
    if (status >= 200 && status < 300 && answer !== undefined) return answer
    const said = typeof answer?.['message'] === 'string' ? `: ${foreignWords(answer['message'])}` : ''
    const rest = said || (answer === undefined ? ' and no JSON object' : '')
    throw unreachable(`answers ${method} ${path} with status ${status}${rest}`, status)
  }

  async #send (
    access: ApiAccess, { body, type = 'application/json', ...target }: Call & { readonly origin: string }, signal: AbortSignal
  ) {
    try {
      const undici = await import('undici')
      const response = await undici.request(`${target.origin}${target.path}`, {
        method: target.method,
        dispatcher: this.#connection.dispatcher(access, undici),
        signal,
        headers: {
          accept: 'application/json',
          ...access.token === undefined ? {} : { authorization: `Bearer ${access.token}` },
          ...body === undefined ? {} : { 'content-type': type }
        },
        ...body === undefined ? {} : { body }
      })
      return { status: response.statusCode, bytes: new Uint8Array(await response.body.arrayBuffer()) }
    } catch (error) {
      signal.throwIfAborted()
      const { code, message } = error as NodeJS.ErrnoException
      throw unreachable(`at ${target.origin} cannot be asked: ${message || code || 'no reason given'}`)
    }
  }
}

function readAnswer (bytes: Uint8Array): JsonObject | undefined {
  try {
    return parseStrictJsonObject(bytes, { maxLength: maxBytes, maxDepth: 100 })
  } catch {
    return undefined
  }
}

function unreachable (what: string, status?: number): SpiffeError {
  const details = status === undefined ? {} : { details: { status } }
  return new SpiffeError('kubernetes_unreachable', `the Kubernetes API server ${what}`, details)
}
