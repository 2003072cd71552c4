import type { Pool } from 'undici'
import { SpiffeError } from '../../../spiffe/errors.ts'
import { isJsonObject, type JsonObject, type JsonValue, parseStrictJsonObject } from '../../../spiffe/strict-json.ts'

export interface DockerEngineConfig {
  /** Of the Unix socket. */
  readonly socketPath: string
  /** Of the API, such as `1.41`; `undefined`: the newest that both sides know. */
  readonly apiVersion: string | undefined
  readonly timeoutMs?: number
}

/** What an engine tells of a container, as far as it matters here. */
export interface Container {
  /** Of its first process, as the engine sees processes; 0: it does not run. */
  readonly pid: number
  /** The image that it was made from, by ID where the engine tells that, otherwise by name; empty: of none. */
  readonly imageId: string
  /** As whoever started it named the image; may be empty. */
  readonly imageName: string
  readonly labels: ReadonlyMap<string, string>
  /** `NAME=value`. */
  readonly environment: readonly string[]
}

/** Of labels and environment, both of which anybody may make long. */
const maxBytes = 4 * 1024 * 1024
const timeoutMs = 5_000
/** What both sides may speak, where it is not settled by configuration. */
const oldestVersion = [1, 24] as const
const newestVersion = [1, 51] as const

/** The Docker Engine API, which Podman speaks too, over a Unix socket: reading only. */
export class DockerEngine implements AsyncDisposable {
  readonly #socketPath: string
  readonly #fixedVersion: string | undefined
  #pool: Promise<Pool> | undefined
  #version: string | undefined
  readonly #timeoutMs: number

  constructor (config: DockerEngineConfig) {
    this.#socketPath = config.socketPath
    this.#fixedVersion = config.apiVersion
    this.#timeoutMs = config.timeoutMs ?? timeoutMs
  }

  /**
   * @returns `undefined`: the engine knows no such container
   * @throws {SpiffeError} `workload_attestation_failed`
   */
  async container (id: string, signal: AbortSignal): Promise<Container | undefined> {
    const path = `/containers/${encodeURIComponent(id)}/json`
    const answer = await this.#get(path, signal)
    return answer === undefined ? undefined : this.#reading(path, () => readContainer(answer))
  }

  /**
   * The digest of an image's configuration, `sha256:…`.
   * @param image ID or name
   * @returns `undefined`: the engine knows no such image any more
   * @throws {SpiffeError} `workload_attestation_failed`
   */
  async imageDigest (image: string, signal: AbortSignal): Promise<string | undefined> {
    const path = `/images/${image.split('/').map(encodeURIComponent).join('/')}/json`
    const answer = await this.#get(path, signal)
    return answer === undefined ? undefined : this.#reading(path, () => textOf(answer['Id'], 'Id'))
  }

  async [Symbol.asyncDispose] (): Promise<void> { await (await this.#pool)?.destroy() }

  async #get (path: string, signal: AbortSignal): Promise<JsonObject | undefined> {
    const version = this.#fixedVersion ?? (this.#version ??= await this.#negotiate(signal))
    const { status, bytes } = await this.#ask(`/v${version}${path}`, signal)
    if (status === 404) return undefined
    if (status !== 200) {
      // It may be another daemon than the one that told its version.
      this.#version = undefined
      throw this.#failed(`answers ${path} with status ${status}`)
    }
    return this.#reading(path, () => parseStrictJsonObject(bytes, { maxLength: maxBytes, maxDepth: 100 }))
  }

  async #negotiate (signal: AbortSignal): Promise<string> {
    const { status, version } = await this.#ask('/_ping', signal)
    if (status !== 200) throw this.#failed(`answers /_ping with status ${status}`)
    const [, major, minor] = /^(\d{1,4})\.(\d{1,4})$/.exec(version ?? '') ?? []
    if (major === undefined) throw this.#failed('does not tell which version of the Docker Engine API it speaks: set docker_version')
    const offered = [Number(major), Number(minor)] as const
    if (isOlder(offered, oldestVersion)) throw this.#failed(`speaks version ${version} of the Docker Engine API, older than 1.24`)
    return (isOlder(newestVersion, offered) ? newestVersion : offered).join('.')
  }

  async #open (): Promise<Pool> {
    const { Pool } = await import('undici')
    return new Pool('http://localhost', { socketPath: this.#socketPath, connections: 4, maxResponseSize: maxBytes })
  }

  async #ask (path: string, signal: AbortSignal) {
    try {
      const stop = AbortSignal.any([signal, AbortSignal.timeout(this.#timeoutMs)])
      const { statusCode, headers, body } = await (await (this.#pool ??= this.#open())).request({ method: 'GET', path, signal: stop })
      const version = headers['api-version']
      const bytes = new Uint8Array(await body.arrayBuffer())
      return { status: statusCode, bytes, version: typeof version === 'string' ? version : undefined }
    } catch (error) {
      signal.throwIfAborted()
      this.#version = undefined
      const { message, code } = error as NodeJS.ErrnoException
      throw this.#failed(`cannot be asked: ${message || code}`, error)
    }
  }

  /** Answers hold secrets, in environments: no message and no cause shows them. */
  #reading<T> (path: string, read: () => T): T {
    try {
      return read()
    } catch (error) {
      throw this.#failed(`answers ${path} with what is none: ${(error as Error).message}`)
    }
  }

  #failed (what: string, cause?: unknown): SpiffeError {
    return new SpiffeError('workload_attestation_failed', `the container engine at ${this.#socketPath} ${what}`, { cause })
  }
}

function isOlder (a: readonly [number, number], b: readonly [number, number]): boolean {
  return a[0] < b[0] || (a[0] === b[0] && a[1] < b[1])
}

function readContainer (answer: JsonObject): Container {
  const config = objectOf(answer['Config'], 'Config')
  const pid = objectOf(answer['State'], 'State')['Pid']
  if (typeof pid !== 'number' || !Number.isSafeInteger(pid) || pid < 0) throw new TypeError('State.Pid is no process ID')
  const labels = config['Labels'] ?? {}
  const environment = config['Env'] ?? []
  if (!Array.isArray(environment)) throw new TypeError('Config.Env is no list')
  const imageName = textOf(config['Image'] ?? '', 'Config.Image')
  return {
    pid,
    imageId: textOf(answer['Image'] ?? '', 'Image') || imageName,
    imageName,
    labels: new Map(Object.entries(objectOf(labels, 'Config.Labels')).map(([name, value]) => [name, textOf(value, 'Config.Labels')])),
    environment: environment.map((value: JsonValue) => textOf(value, 'Config.Env'))
  }
}

function objectOf (value: JsonValue | undefined, name: string): JsonObject {
  if (!isJsonObject(value)) throw new TypeError(`${name} is no object`)
  return value
}

function textOf (value: JsonValue | undefined, name: string): string {
  if (typeof value !== 'string') throw new TypeError(`${name} is no text`)
  return value
}
