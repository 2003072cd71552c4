import { SpiffeError } from '../../spiffe/errors.ts'
import type { Clock } from '../../runtime/clock.ts'
import { Watchable } from '../../runtime/watchable.ts'
import type { SignatureVerification } from './bundle-signature.ts'
import type { BundleSource } from './bundle-source.ts'
import type { EvaluationLimits } from './evaluation-pool.ts'
import { readBundle, type RegoBundle } from './rego-bundle.ts'
import { RegoSet } from './rego-set.ts'

export interface ConfiguredBundle {
  readonly source: BundleSource
  /** `undefined`: taken without a signature. */
  readonly verification?: SignatureVerification | undefined
}

export interface RegoOptions {
  /** By name. */
  readonly bundles: Readonly<Record<string, ConfiguredBundle>>
  readonly limits?: Partial<EvaluationLimits> | undefined
  readonly clock: Clock
  /** Told of each bundle that cannot be had or used, and of each thing that is not a `SpiffeError`, which is a bug. */
  readonly onProblem: (bundle: string, error: unknown) => void
}

export const defaultLimits: EvaluationLimits = { threads: 1, timeoutMs: 500, memoryMb: 64, maxWaiting: 1000 }

/** A set that is no longer the newest still answers for so long, for those who took it before. */
const retirementMs = 10_000

/** Policies in Rego that follow their sources. */
export interface Rego extends AsyncDisposable {
  /** The newest whole set; `undefined` until each source has had a bundle: nothing may be allowed then. */
  readonly current: Watchable<RegoSet | undefined>
  /** Asks each source now, and returns once what it had is in use or refused. For tests and for `reload`. */
  refresh (): Promise<void>
}

/**
 * Loads each bundle, from its source or else from what was kept of it, and follows the sources until it is disposed of.
 * A bundle that cannot be had or used leaves the one before in force.
 */
export async function openRego (options: RegoOptions): Promise<Rego> {
  const follower = new BundleFollower(options)
  await follower.start()
  return follower
}

class BundleFollower implements Rego {
  readonly current = new Watchable<RegoSet | undefined>(undefined)
  readonly #options: RegoOptions
  readonly #stop = new AbortController()
  readonly #bundles = new Map<string, RegoBundle>()
  readonly #running: Promise<void>[] = []
  readonly #retiring = new Set<RegoSet>()
  /** Bundles come into use one after the other. */
  #turn: Promise<void> = Promise.resolve()

  constructor (options: RegoOptions) { this.#options = options }

  async start (): Promise<void> {
    await Promise.all(Object.entries(this.#options.bundles).map(async ([name, bundle]) => {
      const polled = await this.#poll(name, bundle)
      if (!polled) await this.#restore(name, bundle)
      this.#running.push(this.#follow(name, bundle, polled ? 0 : 1))
    }))
  }

  async refresh (): Promise<void> {
    await Promise.all(Object.entries(this.#options.bundles).map(([name, bundle]) => this.#poll(name, bundle)))
  }

  async [Symbol.asyncDispose] (): Promise<void> {
    this.#stop.abort(new SpiffeError('server_stopping', 'policies in Rego are no longer followed'))
    await Promise.all(this.#running)
    await this.#turn
    const last = this.current.value
    this.current.set(undefined)
    await Promise.all([...this.#retiring, ...last === undefined ? [] : [last]].map(set => set[Symbol.asyncDispose]()))
  }

  async #follow (name: string, bundle: ConfiguredBundle, failuresBefore: number): Promise<void> {
    const { signal } = this.#stop
    for (let failures = failuresBefore; ;) {
      // Sooner than its time after a failure, but ever later.
      const waitMs = bundle.source.nextPollMs()
      await this.#options.clock.sleep(failures === 0 ? waitMs : Math.min(waitMs, 500 * 2 ** failures), signal).catch(() => undefined)
      if (signal.aborted) return
      failures = await this.#poll(name, bundle) ? 0 : Math.min(failures + 1, 20)
    }
  }

  /** @returns whether the source could be asked and what it had is in use */
  async #poll (name: string, { source, verification }: ConfiguredBundle): Promise<boolean> {
    const { signal } = this.#stop
    try {
      const offered = await source.poll(signal)
      if (offered === undefined) return true
      await this.#activate(name, await readBundle(offered.bytes, verification))
      await offered.accept()
      return true
    } catch (error) {
      if (!signal.aborted) this.#options.onProblem(name, error)
      return false
    }
  }

  async #restore (name: string, { source, verification }: ConfiguredBundle): Promise<void> {
    try {
      const bytes = await source.restore?.()
      if (bytes !== undefined) await this.#activate(name, await readBundle(bytes, verification))
    } catch (error) {
      this.#options.onProblem(name, error)
    }
  }

  #activate (name: string, bundle: RegoBundle): Promise<void> {
    const activated = this.#turn.then(() => this.#use(name, bundle))
    this.#turn = activated.catch(() => undefined)
    return activated
  }

  async #use (name: string, bundle: RegoBundle): Promise<void> {
    const { bundles, limits, clock } = this.#options
    const wanted = new Map(Object.keys(bundles).flatMap(other => {
      const found = other === name ? bundle : this.#bundles.get(other)
      return found === undefined ? [] : [[other, found] as const]
    }))
    if (wanted.size === Object.keys(bundles).length) {
      const set = await RegoSet.open(wanted, { ...defaultLimits, ...limits }, clock, this.#stop.signal)
      const before = this.current.value
      this.current.set(set)
      if (before !== undefined) void this.#retire(before)
    }
    this.#bundles.set(name, bundle)
  }

  async #retire (set: RegoSet): Promise<void> {
    this.#retiring.add(set)
    await this.#options.clock.sleep(retirementMs, this.#stop.signal).catch(() => undefined)
    await set[Symbol.asyncDispose]()
    this.#retiring.delete(set)
  }
}
