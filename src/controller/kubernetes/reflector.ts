import { hash } from 'node:crypto'
import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { isStop } from '../../runtime/tasks.ts'
import { type KubeClient, statusOf } from './kube-client.ts'
import type { KubeObject } from './kube-object.ts'

export interface ReflectorOptions<T> {
  /** For logs and metrics: `pods`. */
  readonly kind: string
  /** Of the list, e.g. `/api/v1/pods`. */
  readonly path: string
  /** What to keep of an object; what is left out is in no memory. */
  readonly keep: (object: KubeObject) => T
}

export interface ReflectorDeps {
  readonly client: KubeClient
  readonly clock: Clock
  readonly log: Logger
  /** The list was read, or has to be read anew. */
  readonly onRestart?: ((kind: string) => void) | undefined
}

/** @param before undefined: it is new @param after undefined: it is gone */
type OnChange<T> = (before: T | undefined, after: T | undefined) => void

const firstPauseMs = 200
const longestPauseMs = 15_000

/**
 * The objects of one kind, kept up to date by list and watch: whatever breaks off is taken up where it stopped, or read anew where the API
 * server does not remember that far. Objects whose kept part did not change change nothing.
 */
export class Reflector<T> {
  readonly #options: ReflectorOptions<T>
  readonly #deps: ReflectorDeps
  /** By UID. */
  readonly #objects = new Map<string, { readonly kept: T, readonly digest: string }>()
  readonly #synced = Promise.withResolvers<void>()
  #isSynced = false

  constructor (options: ReflectorOptions<T>, deps: ReflectorDeps) {
    this.#options = options
    this.#deps = deps
  }

  get isSynced (): boolean { return this.#isSynced }
  /** Settles once the first list is whole. */
  get synced (): Promise<void> { return this.#synced.promise }
  get kind (): string { return this.#options.kind }
  get size (): number { return this.#objects.size }
  * values (): Generator<T, void, undefined> { for (const { kept } of this.#objects.values()) yield kept }
  get (uid: string): T | undefined { return this.#objects.get(uid)?.kept }

  /** Until the signal aborts. @param onChange must not throw */
  async run (onChange: OnChange<T>, signal: AbortSignal): Promise<void> {
    const { clock, log, onRestart } = this.#deps
    const { kind } = this.#options
    let version: string | undefined
    let pauseMs = firstPauseMs
    for (;;) {
      try {
        if (version === undefined) {
          version = await this.readAll(onChange, signal)
          this.#isSynced = true
          this.#synced.resolve()
        }
        const begunMs = clock.monotonicMs()
        for await (const next of this.#follow(version, onChange, signal)) {
          version = next
          pauseMs = firstPauseMs
        }
        // A server that is about to stop ends each watch at once.
        if (clock.monotonicMs() - begunMs < firstPauseMs) await clock.sleep(firstPauseMs, signal)
      } catch (error) {
        if (isStop(error, signal)) throw error
        const status = statusOf(error)
        // Gone: the server has forgotten what came after this version.
        if (status === 410) version = undefined
        onRestart?.(kind)
        if (status === 410) log.info({ kind }, 'objects are read anew: the API server does not remember that far')
        else log.warn({ err: error, kind, retryInMs: pauseMs }, 'objects cannot be followed')
        await clock.sleep(pauseMs, signal)
        pauseMs = Math.min(longestPauseMs, pauseMs * 2)
      }
    }
  }

  /** Reads the whole list once. @returns where a watch goes on @throws {SpiffeError} `kubernetes_unreachable` */
  async readAll (onChange: OnChange<T>, signal: AbortSignal): Promise<string> {
    const { client } = this.#deps
    const gone = new Set(this.#objects.keys())
    let version = ''
    for await (const { items, resourceVersion } of client.list(this.#options.path, signal)) {
      for (const object of items) {
        gone.delete(object.metadata.uid)
        this.#put(object, onChange)
      }
      version = resourceVersion
    }
    for (const uid of gone) this.#remove(uid, onChange)
    return version
  }

  async * #follow (from: string, onChange: OnChange<T>, signal: AbortSignal): AsyncGenerator<string, void, undefined> {
    for await (const event of this.#deps.client.watch(this.#options.path, from, signal)) {
      if (event.type === 'BOOKMARK') {
        yield event.resourceVersion
        continue
      }
      const { object } = event
      if (event.type === 'DELETED') this.#remove(object.metadata.uid, onChange)
      else this.#put(object, onChange)
      yield object.metadata.resourceVersion ?? from
    }
  }

  #put (object: KubeObject, onChange: OnChange<T>): void {
    const kept = this.#options.keep(object)
    const digest = hash('sha256', JSON.stringify(kept), 'base64')
    const before = this.#objects.get(object.metadata.uid)
    if (before?.digest === digest) return
    this.#objects.set(object.metadata.uid, { kept, digest })
    onChange(before?.kept, kept)
  }

  #remove (uid: string, onChange: OnChange<T>): void {
    const before = this.#objects.get(uid)
    if (!this.#objects.delete(uid) || before === undefined) return
    onChange(before.kept, undefined)
  }
}
