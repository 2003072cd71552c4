import type { Clock } from '../../runtime/clock.ts'
import type { Labels } from './node-pod.ts'

export interface NamespaceLabelsDeps {
  /** Of one namespace; `undefined`: there is none of that name. @throws {SpiffeError} when nobody says */
  readonly fetch: (namespace: string, signal: AbortSignal) => Promise<Labels | undefined>
  readonly clock: Pick<Clock, 'monotonicMs'>
}

interface Known { readonly labels: Labels, readonly askedAtMs: number }

/** Of an answer that is used where no newer one is to be had, when a pod starts. */
const oldestMs = 60_000
const timeoutMs = 5_000
/** Questions at one time. */
const mostAtOnce = 8

/** Labels of the namespaces that have pods on this node, each asked for by its name: nothing is listed, nothing of others is read. */
export class NamespaceLabels {
  readonly #deps: NamespaceLabelsDeps
  readonly #known = new Map<string, Known>()

  constructor (deps: NamespaceLabelsDeps) { this.#deps = deps }

  /** As they were said last; `undefined`: never yet. */
  known (namespace: string): Labels | undefined { return this.#known.get(namespace)?.labels }

  /** Asked for now, or for want of an answer what was said within the last minute. @throws what `fetch` threw */
  async now (namespace: string, signal: AbortSignal): Promise<Labels> {
    const askedAtMs = this.#deps.clock.monotonicMs()
    try {
      return await this.#ask(namespace, askedAtMs, signal)
    } catch (error) {
      const known = this.#known.get(namespace)
      if (signal.aborted || known === undefined || askedAtMs - known.askedAtMs > oldestMs) throw error
      return known.labels
    }
  }

  /**
   * Asks for all of these, and forgets all others.
   * @returns for how many nobody said, and the first reason; these stay as they were
   */
  async refresh (namespaces: ReadonlySet<string>, signal: AbortSignal): Promise<{ readonly failed: number, readonly reason: unknown }> {
    for (const namespace of this.#known.keys()) if (!namespaces.has(namespace)) this.#known.delete(namespace)
    const waiting = [...namespaces]
    const reasons: unknown[] = []
    const ask = async () => {
      for (let namespace = waiting.pop(); namespace !== undefined; namespace = waiting.pop()) {
        await this.#ask(namespace, this.#deps.clock.monotonicMs(), signal).catch((error: unknown) => { reasons.push(error) })
      }
    }
    await Promise.all(Array.from({ length: mostAtOnce }, ask))
    signal.throwIfAborted()
    return { failed: reasons.length, reason: reasons[0] }
  }

  async #ask (namespace: string, askedAtMs: number, signal: AbortSignal): Promise<Labels> {
    const labels = await this.#deps.fetch(namespace, AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)])) ??
      // Of one that is being removed: its last pods stay what they were.
      this.known(namespace) ?? {}
    const known = this.#known.get(namespace)
    // Answers may come in another order than they were asked for.
    if (known === undefined || known.askedAtMs <= askedAtMs) this.#known.set(namespace, { labels, askedAtMs })
    return labels
  }
}
