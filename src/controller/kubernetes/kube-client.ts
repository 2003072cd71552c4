import type { ApiAccess } from '../../attestation/kubernetes/api-access.ts'
import { readInClusterAccess } from '../../attestation/kubernetes/api-access.ts'
import { ApiConnection } from '../../attestation/kubernetes/api-connection.ts'
import { readKubeconfigAccess } from '../../attestation/kubernetes/kubeconfig.ts'
import { foreignWords } from '../../runtime/foreign-words.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { isRecord, type KubeObject } from './kube-object.ts'

export interface KubePage {
  readonly items: readonly KubeObject[]
  /** Of the list as a whole: where a watch goes on. */
  readonly resourceVersion: string
}

export type WatchEvent =
  | { readonly type: 'ADDED' | 'MODIFIED' | 'DELETED', readonly object: KubeObject }
  | { readonly type: 'BOOKMARK', readonly resourceVersion: string }

/**
 * A page holds at most so many objects: with all that API servers add to a pod, some megabytes. Whoever may create pods may make them much
 * larger: then fewer, down to one, whose JSON is never as long as an answer may be.
 */
const pageSizes = [250, 25, 1] as const
const maxBytes = 16 * 1024 * 1024
const timeoutMs = 30_000
/** The server ends a watch after that; a connection that died unseen is noticed by then. */
const watchSeconds = 300

/** An answer of the API server that is no success. */
export class KubeRefusal extends SpiffeError {
  /** HTTP's: 404, 409, 410. */
  readonly status: number

  constructor (status: number, what: string, said: string) {
    super('kubernetes_unreachable', `the Kubernetes API server answers ${what} with status ${status}${said === '' ? '' : `: ${said}`}`)
    this.status = status
  }
}

/** What it answers is not read to its end. */
class AnswerTooLarge extends SpiffeError {
  constructor (what: string) {
    super('kubernetes_unreachable', `the Kubernetes API server answers ${what} with more than ${maxBytes} bytes`)
  }
}

export function statusOf (error: unknown): number | undefined {
  return error instanceof KubeRefusal ? error.status : undefined
}

type Method = 'GET' | 'POST' | 'PUT' | 'PATCH'

/** What a controller asks of an API server: lists in pages, watches, and single objects. Rights are read anew for each call. */
export class KubeClient implements AsyncDisposable {
  readonly #access: () => Promise<ApiAccess>
  readonly #calls = new ApiConnection({ maxBytes, headersTimeoutMs: timeoutMs, bodyTimeoutMs: timeoutMs })
  readonly #watches = new ApiConnection({ maxBytes: -1, headersTimeoutMs: timeoutMs, bodyTimeoutMs: (watchSeconds + 60) * 1_000 })

  /** @param access throws {SpiffeError} `kubernetes_unreachable` */
  constructor (access: () => Promise<ApiAccess>) { this.#access = access }

  /** @param kubeconfig path; the cluster that this process runs in unless given */
  static of (kubeconfig: string | undefined): KubeClient {
    return new KubeClient(() => kubeconfig === undefined ? readInClusterAccess() : readKubeconfigAccess(kubeconfig))
  }

  /**
   * Page after page.
   * @throws {SpiffeError} `kubernetes_unreachable`; a `KubeRefusal` with 410 when the pages were too old to go on
   */
  async * list (path: string, signal: AbortSignal): AsyncGenerator<KubePage, void, undefined> {
    let [size, ...smaller]: readonly number[] = pageSizes
    for (let token = ''; ;) {
      const query = `limit=${size}${token === '' ? '' : `&continue=${encodeURIComponent(token)}`}`
      const answer = await this.#ask('GET', `${path}?${query}`, undefined, signal).catch((error: unknown) => {
        if (error instanceof AnswerTooLarge && smaller.length > 0) return undefined
        throw error
      })
      if (answer === undefined) {
        [size, ...smaller] = smaller
        continue
      }
      const { metadata, items } = answer
      const { continue: next = '', resourceVersion } = (metadata ?? {}) as { continue?: string, resourceVersion?: string }
      if (!Array.isArray(items) || typeof resourceVersion !== 'string') throw unreachable(`answers GET ${path} with no list`)
      yield { items: items as KubeObject[], resourceVersion }
      if (next === '') return
      token = next
    }
  }

  /**
   * Changes since then; ends when the server ends it, as it does now and then.
   * @throws {SpiffeError} `kubernetes_unreachable`; a `KubeRefusal` with 410 when `resourceVersion` is too old
   */
  async * watch (path: string, resourceVersion: string, signal: AbortSignal): AsyncGenerator<WatchEvent, void, undefined> {
    const from = encodeURIComponent(resourceVersion)
    const query = `watch=true&allowWatchBookmarks=true&timeoutSeconds=${watchSeconds}&resourceVersion=${from}`
    const { statusCode, body } = await this.#send(this.#watches, 'GET', `${path}?${query}`, undefined, signal)
    if (statusCode !== 200) throw refusalOf(statusCode, `GET ${path}`, parse(await body.text()))
    try {
      for await (const line of linesOf(body)) yield readEvent(line, path)
    } catch (error) {
      signal.throwIfAborted()
      if (error instanceof SpiffeError) throw error
      throw unreachable(`broke off the watch of ${path}: ${(error as Error).message}`)
    } finally {
      body.destroy()
    }
  }

  /** @returns `undefined` where there is none */
  async get (path: string, signal: AbortSignal): Promise<KubeObject | undefined> {
    try {
      return await this.#ask('GET', path, undefined, signal) as unknown as KubeObject
    } catch (error) {
      if (statusOf(error) === 404) return undefined
      throw error
    }
  }

  /** @throws {SpiffeError} `kubernetes_unreachable`; a `KubeRefusal` with 409 when it is there already */
  async create (path: string, body: object, signal: AbortSignal): Promise<KubeObject> {
    return await this.#ask('POST', path, body, signal) as unknown as KubeObject
  }

  /** @throws {SpiffeError} `kubernetes_unreachable`; a `KubeRefusal` with 409 when it is not any more what `body` was made from */
  async replace (path: string, body: object, signal: AbortSignal): Promise<KubeObject> {
    return await this.#ask('PUT', path, body, signal) as unknown as KubeObject
  }

  /** By a merge patch (RFC 7386). */
  async patch (path: string, body: object, signal: AbortSignal): Promise<void> { await this.#ask('PATCH', path, body, signal) }

  async [Symbol.asyncDispose] (): Promise<void> {
    await Promise.all([this.#calls[Symbol.asyncDispose](), this.#watches[Symbol.asyncDispose]()])
  }

  async #ask (method: Method, path: string, body: object | undefined, signal: AbortSignal): Promise<Readonly<Record<string, unknown>>> {
    const { statusCode, body: answered } = await this.#send(this.#calls, method, path, body, signal)
    const text = await answered.text().catch((error: unknown) => {
      signal.throwIfAborted()
      if ((error as NodeJS.ErrnoException).code === 'UND_ERR_RES_EXCEEDED_MAX_SIZE') throw new AnswerTooLarge(`${method} ${path}`)
      throw unreachable(`breaks off its answer to ${method} ${path}: ${(error as Error).message}`)
    })
    const answer = parse(text)
    if (statusCode >= 300) throw refusalOf(statusCode, `${method} ${path}`, answer)
    if (answer === undefined) throw unreachable(`answers ${method} ${path} with no JSON object`)
    return answer
  }

  async #send (connection: ApiConnection, method: Method, path: string, body: object | undefined, signal: AbortSignal) {
    const access = await this.#access()
    const { origin, pathname } = access.server
    try {
      const undici = await import('undici')
      return await undici.request(origin + pathname.replace(/\/$/, '') + path, {
        method,
        dispatcher: connection.dispatcher(access, undici),
        signal,
        headers: {
          accept: 'application/json',
          ...access.token === undefined ? {} : { authorization: `Bearer ${access.token}` },
          ...body === undefined ? {} : { 'content-type': method === 'PATCH' ? 'application/merge-patch+json' : 'application/json' }
        },
        ...body === undefined ? {} : { body: JSON.stringify(body) }
      })
    } catch (error) {
      signal.throwIfAborted()
      const { code, message } = error as NodeJS.ErrnoException
      throw unreachable(`at ${origin} cannot be asked: ${message || code || 'no reason given'}`)
    }
  }
}

/** One line is one event, as long as an object. */
async function * linesOf (body: AsyncIterable<Uint8Array>): AsyncGenerator<string, void, undefined> {
  const decoder = new TextDecoder()
  let rest = ''
  for await (const piece of body) {
    const lines = (rest + decoder.decode(piece, { stream: true })).split('\n')
    rest = lines.pop() ?? ''
    if (rest.length > maxBytes) throw unreachable('sends a line without end')
    for (const line of lines) if (line.trim() !== '') yield line
  }
}

function readEvent (line: string, path: string): WatchEvent {
  const { type, object } = parse(line) ?? {}
  if (!isRecord(object)) throw unreachable(`sends a watch of ${path} something else`)
  if (type === 'ERROR') throw refusalOf(typeof object['code'] === 'number' ? object['code'] : 500, `a watch of ${path}`, object)
  if (type === 'BOOKMARK') return { type, resourceVersion: (object as unknown as KubeObject).metadata.resourceVersion ?? '' }
  if (type !== 'ADDED' && type !== 'MODIFIED' && type !== 'DELETED') throw unreachable(`sends a watch of ${path} an unknown event`)
  return { type, object: object as unknown as KubeObject }
}

function refusalOf (status: number, what: string, answer: Readonly<Record<string, unknown>> | undefined): KubeRefusal {
  return new KubeRefusal(status, what, typeof answer?.['message'] === 'string' ? foreignWords(answer['message']) : '')
}

function unreachable (what: string): SpiffeError {
  return new SpiffeError('kubernetes_unreachable', `the Kubernetes API server ${what}`)
}

function parse (text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return isRecord(value) ? value : undefined
  } catch {
    return undefined
  }
}
