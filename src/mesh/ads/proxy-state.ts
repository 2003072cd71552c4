import { Watchable } from '../../runtime/watchable.ts'
import type { AdsViews } from './ads-stream.ts'
import type { ProxyStream, ResourceStatus } from './ads-handlers.ts'

export interface Refusal { readonly typeUrl: string, readonly name: string, readonly reason: string }

/** Of one proxy, remembered at a time. */
const mostRefusals = 10_000

/** What the node's proxy has said of what it was told. */
export class ProxyState {
  /** Type and name → version that was taken over. */
  readonly #held = new Map<string, string>()
  readonly #refused = new Map<string, Refusal>()
  readonly #changes = new Watchable(0)
  /** Each open stream, with the last state that its proxy has answered. */
  readonly #streams = new Map<symbol, AdsViews | undefined>()

  get streams (): number { return this.#streams.size }

  /** What it has refused and does not have as it is now: to have taken again what it had before is no cure. */
  refused (views: AdsViews | undefined, at: Date): readonly Refusal[] {
    return [...this.#refused.values()].filter(({ typeUrl, name }) =>
      views?.get(typeUrl)?.find(name, at).kind !== 'absent' && !this.holds(views, typeUrl, [name], at))
  }

  /** A proxy connects. After the last has gone, what is known of it is forgotten: the next begins anew. */
  open (): ProxyStream {
    const stream = Symbol('stream')
    this.#streams.set(stream, undefined)
    return {
      settled: views => {
        if (this.#streams.get(stream) === views) return
        this.#streams.set(stream, views)
        this.#changed()
      },
      [Symbol.dispose]: () => {
        this.#streams.delete(stream)
        if (this.#streams.size === 0) {
          this.#held.clear()
          this.#refused.clear()
        }
        this.#changed()
      }
    }
  }

  /** Whether every proxy that is there has been told all of a state, and has answered. */
  hasSettled (views: AdsViews | undefined): boolean { return [...this.#streams.values()].every(answered => answered === views) }

  note ({ typeUrl, name, version, refusal, isLetGo }: ResourceStatus): void {
    if (name === undefined) return
    const key = `${typeUrl} ${name}`
    if (refusal !== undefined) {
      this.#refused.set(key, { typeUrl, name, reason: refusal })
      const [oldest] = this.#refused.keys()
      if (this.#refused.size > mostRefusals && oldest !== undefined) this.#refused.delete(oldest)
    } else {
      // After a refusal it is told once more what it had, or that it has nothing.
      if (isLetGo === true || version !== this.#held.get(key)) this.#refused.delete(key)
      if (version === undefined) this.#held.delete(key)
      else this.#held.set(key, version)
    }
    this.#changed()
  }

  /** Whether the proxy has these in the versions they have now. */
  holds (views: AdsViews | undefined, typeUrl: string, names: readonly string[], at: Date): boolean {
    const view = views?.get(typeUrl)
    return view !== undefined && names.every(name => {
      const found = view.find(name, at)
      return found.kind === 'usable' && this.#held.get(`${typeUrl} ${name}`) === found.resource.version
    })
  }

  /** Whether the proxy has asked for one of these and has not taken over what it is now. */
  lags (views: AdsViews | undefined, typeUrl: string, names: readonly string[], at: Date): boolean {
    return names.some(name => {
      const key = `${typeUrl} ${name}`
      return (this.#held.has(key) || this.#refused.has(key)) && !this.holds(views, typeUrl, [name], at)
    })
  }

  /** Once now, then after each change, until the signal aborts. */
  watch (signal: AbortSignal): AsyncIterable<number> { return this.#changes.watch(signal) }

  #changed (): void { this.#changes.set(this.#changes.value + 1) }
}
