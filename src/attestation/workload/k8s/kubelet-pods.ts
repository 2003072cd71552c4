import type { Clock } from '../../../runtime/clock.ts'
import type { Pod } from './pod.ts'

/** The pods of this node as the kubelet told them once. */
export interface PodList {
  readonly pods: ReadonlyMap<string, Pod>
  /** When the kubelet was asked, on the clock that never goes back. */
  readonly askedAtMs: number
}

export interface KubeletPodsDeps {
  readonly fetch: (signal: AbortSignal) => Promise<ReadonlyMap<string, Pod>>
  /** Between the beginnings of two requests, whoever asks; also for how long an answer may be used. */
  readonly intervalMs: number
  readonly clock: Clock
}

/** What the kubelet knows, asked for all callers together: a hundred workloads that start at once ask no more often than one. */
export class KubeletPods implements Disposable {
  readonly #deps: KubeletPodsDeps
  readonly #ending = new AbortController()
  #known: PodList | undefined
  #fetching: Promise<PodList> | undefined
  #lastAskedAtMs = Number.NEGATIVE_INFINITY

  constructor (deps: KubeletPodsDeps) { this.#deps = deps }

  /**
   * A list that is fresh, or as soon as the kubelet may be asked again and answers.
   * @param than a list that has been looked through already, and from when on the kubelet must have been asked
   * @throws what `fetch` threw; when the signal aborts, its reason
   */
  async newer (
    than: { readonly list?: PodList | undefined, readonly askedSinceMs?: number | undefined }, signal: AbortSignal
  ): Promise<PodList> {
    const { clock, intervalMs } = this.#deps
    const serves = (list: PodList) => list !== than.list && list.askedAtMs >= (than.askedSinceMs ?? Number.NEGATIVE_INFINITY)
    const known = this.#known
    if (known !== undefined && clock.monotonicMs() - known.askedAtMs < intervalMs && serves(known)) return known
    for (;;) {
      signal.throwIfAborted()
      // Somebody else's going away does not end what others wait for. However long the kubelet took, it has no newer answer.
      const list = await unlessAborted(this.#fetching ??= this.#fetch().finally(() => { this.#fetching = undefined }), signal)
      if (serves(list)) return list
    }
  }

  [Symbol.dispose] (): void { this.#ending.abort(new Error('the attestor is being closed')) }

  async #fetch (): Promise<PodList> {
    const { fetch, clock, intervalMs } = this.#deps
    const waitMs = this.#lastAskedAtMs + intervalMs - clock.monotonicMs()
    if (waitMs > 0) await clock.sleep(waitMs, this.#ending.signal)
    const askedAtMs = this.#lastAskedAtMs = clock.monotonicMs()
    return this.#known = { pods: await fetch(this.#ending.signal), askedAtMs }
  }
}

function unlessAborted<T> (work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason as Error)
    signal.addEventListener('abort', stop, { once: true })
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', stop))
  })
}
