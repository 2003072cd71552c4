import { Watchable } from '../../runtime/watchable.ts'
import type { AdsViews } from './ads-stream.ts'
import type { ResourceStatus } from './ads-handlers.ts'

export interface Refusal { readonly typeUrl: string, readonly name: string, readonly reason: string }

/** What the node's proxy has said of what it was told. */
export class ProxyState {
  /** Type and name → version that was taken over. */
  readonly #held = new Map<string, string>()
  readonly #refused = new Map<string, Refusal>()
  readonly #changes = new Watchable(0)
  #streams = 0

  get streams (): number { return this.#streams }
  get refused (): readonly Refusal[] { return [...this.#refused.values()] }

  /** +1 when a proxy connects, -1 when it goes. One that is alone begins anew. */
  connected (change: 1 | -1): void {
    this.#streams += change
    if (this.#streams > 0) return
    this.#held.clear()
    this.#refused.clear()
    this.#changed()
  }

  note ({ typeUrl, name, version, refusal }: ResourceStatus): void {
    if (name === undefined) return
    const key = `${typeUrl} ${name}`
    if (refusal !== undefined) this.#refused.set(key, { typeUrl, name, reason: refusal })
    else {
      this.#refused.delete(key)
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

  /** Once now, then after each change, until the signal aborts. */
  watch (signal: AbortSignal): AsyncIterable<number> { return this.#changes.watch(signal) }

  #changed (): void { this.#changes.set(this.#changes.value + 1) }
}
