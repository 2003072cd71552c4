import { readFile } from 'node:fs/promises'
import type { Pool } from 'undici'
import type { Clock } from '../../../runtime/clock.ts'
import { SpiffeError } from '../../../spiffe/errors.ts'
import { parsePodList, type Pod } from './pod.ts'

export interface KubeletConfig {
  readonly port: number
  /** HTTPS; otherwise the port that asks nobody who he is. */
  readonly secure: boolean
  /** Also what its certificate must be for; `undefined`: it is asked over loopback, and any name will do. */
  readonly nodeName: string | undefined
  /** PEM file; `undefined`: whoever answers is believed. */
  readonly caPath: string | undefined
  readonly proof: KubeletProof
  readonly reloadIntervalMs: number
}

/** How the agent shows that it may ask; paths of files. */
export type KubeletProof =
  | { readonly kind: 'none' }
  | { readonly kind: 'token', readonly path: string }
  | { readonly kind: 'certificate', readonly certificatePath: string, readonly keyPath: string }

interface Connection {
  readonly pool: Pool
  /** Secret. */
  readonly token: string | undefined
  readonly loadedAtMs: number
  /** Of what `pool` was made with. */
  readonly key: string
}

const timeoutMs = 10_000
/** Hundreds of pods, each with annotations of up to 256 KiB. */
const maxBytes = 128 * 1024 * 1024

/** The kubelet of this node. */
export class Kubelet implements AsyncDisposable {
  readonly #config: KubeletConfig
  readonly #clock: Pick<Clock, 'monotonicMs'>
  readonly #origin: string
  #connection: Connection | undefined

  constructor (config: KubeletConfig, clock: Pick<Clock, 'monotonicMs'>) {
    this.#config = config
    this.#clock = clock
    const { secure, nodeName, port } = config
    const host = !secure || nodeName === undefined ? '127.0.0.1' : nodeName.includes(':') ? `[${nodeName}]` : nodeName
    this.#origin = `${secure ? 'https' : 'http'}://${host}:${port}`
  }

  /**
   * All pods of this node, by UID.
   * @throws {SpiffeError} `workload_attestation_failed`
   */
  async pods (signal: AbortSignal): Promise<ReadonlyMap<string, Pod>> {
    const { status, text } = await this.#get(await this.#connected(), signal)
    if (status !== 200) {
      // The token may have been replaced since it was read.
      if (this.#connection !== undefined) this.#connection = { ...this.#connection, loadedAtMs: Number.NEGATIVE_INFINITY }
      throw this.#failed(`answers with status ${status}${status === 401 || status === 403 ? refusalHint : ''}`)
    }
    try {
      return parsePodList(text)
    } catch (error) {
      throw this.#failed('answers with what is no list of pods', error)
    }
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.#connection?.pool.destroy() }

  async #get ({ pool, token }: Connection, signal: AbortSignal): Promise<{ readonly status: number, readonly text: string }> {
    try {
      const headers = { accept: 'application/json', ...token === undefined ? {} : { authorization: `Bearer ${token}` } }
      const stop = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)])
      const response = await pool.request({ method: 'GET', path: '/pods', headers, signal: stop })
      return { status: response.statusCode, text: await response.body.text() }
    } catch (error) {
      signal.throwIfAborted()
      throw this.#failed(`cannot be asked: ${(error as Error).message || (error as NodeJS.ErrnoException).code}`, error)
    }
  }

  async #connected (): Promise<Connection> {
    const { Pool } = await import('undici')
    const { reloadIntervalMs, proof, caPath, nodeName, secure } = this.#config
    const now = this.#clock.monotonicMs()
    const before = this.#connection
    if (before !== undefined && now - before.loadedAtMs < reloadIntervalMs) return before
    const read = (path: string | undefined) => path === undefined ? undefined : this.#read(path)
    const [token, ca, cert, key] = !secure ? [] : await Promise.all([
      read(proof.kind === 'token' ? proof.path : undefined),
      read(caPath),
      read(proof.kind === 'certificate' ? proof.certificatePath : undefined),
      read(proof.kind === 'certificate' ? proof.keyPath : undefined)
    ])
    const made = JSON.stringify([ca, cert, key])
    const loaded = { token: token?.trim(), loadedAtMs: now, key: made }
    if (before?.key === made) return this.#connection = { ...loaded, pool: before.pool }
    void before?.pool.close()
    const pool = new Pool(this.#origin, {
      connections: 2,
      maxResponseSize: maxBytes,
      connect: {
        timeout: timeoutMs,
        ...secure ? { minVersion: 'TLSv1.2', rejectUnauthorized: caPath !== undefined } : {},
        ...ca === undefined ? {} : { ca },
        ...cert === undefined || key === undefined ? {} : { cert, key },
        ...nodeName === undefined ? { checkServerIdentity: () => undefined } : {}
      }
    })
    return this.#connection = { ...loaded, pool }
  }

  async #read (path: string): Promise<string> {
    try {
      return await readFile(path, 'utf8')
    } catch (error) {
      throw this.#failed(`cannot be asked: ${path} cannot be read`, error)
    }
  }

  #failed (what: string, cause?: unknown): SpiffeError {
    return new SpiffeError('workload_attestation_failed', `the kubelet at ${this.#origin} ${what}`, { cause })
  }
}

const refusalHint = ': allow the agent\'s service account to get nodes/proxy (or nodes/pods); see docs/kubernetes.md'
