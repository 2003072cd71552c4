import type { PolicyBundle } from '../authz/policy/policy-set.ts'
import { openPushedBundles, type PushedBundlesDeps } from '../authz/rego/pushed-bundles.ts'
import type { RegoSet } from '../authz/rego/rego-set.ts'
import { SpiffeError } from '../spiffe/errors.ts'

/** Who began to decide by bundles that are no longer served ends by them. */
const retirementMs = 10_000

/** The Rego that goes with the policies that the node serves. */
export class NodeBundles implements AsyncDisposable {
  readonly #deps: PushedBundlesDeps
  readonly #stop = new AbortController()
  readonly #retiring = new Set<Promise<void>>()
  #served: { readonly bundles: readonly PolicyBundle[], readonly set: RegoSet } | undefined

  constructor (deps: PushedBundlesDeps) { this.#deps = deps }

  /** Those that are served, if they are these to the letter: nothing need be opened then. */
  servedAs (bundles: readonly PolicyBundle[]): RegoSet | undefined {
    return this.#served !== undefined && areSame(this.#served.bundles, bundles) ? this.#served.set : undefined
  }

  /** @returns what the caller gives to `serve`, or disposes of @throws as `openPushedBundles`; the signal's reason after disposal */
  async open (bundles: readonly PolicyBundle[]): Promise<RegoSet> {
    return await openPushedBundles(bundles, this.#deps, this.#stop.signal)
  }

  /** From now on these; those before are closed a little later. @param set `undefined`: none */
  serve (bundles: readonly PolicyBundle[], set: RegoSet | undefined): void {
    const before = this.#served
    if (before?.set === set) return
    this.#served = set === undefined ? undefined : { bundles, set }
    if (before === undefined) return
    const retiring = this.#retire(before.set).finally(() => this.#retiring.delete(retiring))
    this.#retiring.add(retiring)
  }

  async [Symbol.asyncDispose] (): Promise<void> {
    this.#stop.abort(new SpiffeError('server_stopping', 'the agent stops'))
    await Promise.all([...this.#retiring, this.#served?.set[Symbol.asyncDispose]()])
    this.#served = undefined
  }

  async #retire (set: RegoSet): Promise<void> {
    await this.#deps.clock.sleep(retirementMs, this.#stop.signal).catch(() => undefined)
    await set[Symbol.asyncDispose]()
  }
}

function areSame (some: readonly PolicyBundle[], others: readonly PolicyBundle[]): boolean {
  return some === others || (some.length === others.length && some.every(({ name, archive, entrypoints, key }, index) => {
    const other = others[index] as PolicyBundle
    return name === other.name && archive === other.archive && key === other.key && entrypoints.join() === other.entrypoints.join()
  }))
}
