import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { nap } from '../../runtime/nap.ts'
import { isStop } from '../../runtime/tasks.ts'
import { codeOf } from '../../spiffe/errors.ts'
import type { ControllerMetrics } from '../controller-metrics.ts'
import type { ClusterView } from '../desired/cluster-view.ts'
import { DesiredState, type Scope } from '../desired/desired-state.ts'
import { diffEntries } from '../desired/diff-entries.ts'
import type { Tenure } from '../kubernetes/lease.ts'
import { EntryMirror } from '../server/entry-mirror.ts'
import type { ServerEntries } from '../server/server-entries.ts'
import type { ServerFederation } from '../server/server-federation.ts'
import { applyEntries } from './apply-entries.ts'
import { type FederationState, reconcileFederation } from './reconcile-federation.ts'

export interface ReconcilerOptions {
  readonly scope: Scope
  /** Of the IDs of all entries that are this controller's. */
  readonly prefix: string
  /** How often the server is asked what it has, though nothing happened. */
  readonly fullEveryMs: number
}

export interface ReconcilerDeps {
  readonly view: ClusterView
  readonly entries: ServerEntries
  readonly federation: ServerFederation
  readonly clock: Clock
  readonly log: Logger
  readonly metrics: ControllerMetrics
  /** After each round: what statuses tell may have changed. @param written keys of entries that were made or changed */
  readonly onRound: (written: ReadonlySet<string>) => void
}

/** Events that come together are answered together. */
const gatherMs = 10
const firstPauseMs = 250
const longestPauseMs = 30_000

/**
 * Keeps the server's entries and relationships what the cluster asks for. A pod that changes costs a look at that pod and one call;
 * whatever all pods may depend on, a look at all of them; and now and then the server is asked for all it has, since others may have
 * changed that.
 */
export class Reconciler {
  readonly #options: ReconcilerOptions
  readonly #deps: ReconcilerDeps
  readonly #desired: DesiredState
  readonly #mirror: EntryMirror
  #federation: FederationState = { masked: new Map(), foreign: new Set(), failures: new Map() }
  /** By key: why an entry is not on the server as it should be. */
  readonly #failures = new Map<string, string>()
  readonly #foreign = new Map<string, string>()
  /** Pods that changed, and since when. */
  #dirty = new Map<string, number>()
  #isAllDirty = false
  #isFederationDirty = false
  #fullDueMs = 0
  #retryDueMs = Infinity
  #retryPauseMs = firstPauseMs
  #isRunning = false
  #wake: () => void = () => {}

  constructor (options: ReconcilerOptions, deps: ReconcilerDeps) {
    this.#options = options
    this.#deps = deps
    this.#desired = new DesiredState(options.scope)
    this.#mirror = new EntryMirror(options.prefix)
  }

  get desired (): DesiredState { return this.#desired }
  get federation (): FederationState { return this.#federation }
  failureOf (key: string): string | undefined { return this.#failures.get(key) }
  foreignOf (key: string): string | undefined { return this.#foreign.get(key) }
  /** Whether an own entry with this key was seen on, or written to, the server. */
  isSet (key: string): boolean { return this.idOf(key) !== undefined }
  /** Of the own entry with this key. */
  idOf (key: string): string | undefined { return this.#mirror.own(key)[0]?.id }

  podChanged (uid: string): void {
    // Who does not lead looks at everything when it begins to.
    if (!this.#isRunning) return
    if (!this.#dirty.has(uid)) this.#dirty.set(uid, this.#deps.clock.monotonicMs())
    this.#wake()
  }

  /** What entries of many pods depend on. */
  clusterChanged (): void {
    this.#isAllDirty = true
    this.#wake()
  }

  federationChanged (): void {
    this.#isFederationDirty = true
    this.#wake()
  }

  /** While it leads. @throws the signal's reason @throws {SpiffeError} `lease_lost` */
  async run (tenure: Tenure, signal: AbortSignal): Promise<void> {
    const { clock, log, metrics } = this.#deps
    let pauseMs = firstPauseMs
    // Another one may have led, and written, meanwhile.
    this.#fullDueMs = 0
    this.#isRunning = true
    await using scope = new AsyncDisposableStack()
    scope.defer(() => { this.#isRunning = false })
    for (;;) {
      await this.#untilDue(signal)
      try {
        await this.#round(tenure, signal)
        pauseMs = firstPauseMs
      } catch (error) {
        if (isStop(error, signal) || codeOf(error) === 'lease_lost') throw error
        metrics.failed('round')
        log.warn({ err: error, retryInMs: pauseMs }, 'entries could not be reconciled')
        // What of it was done is not known.
        this.#fullDueMs = 0
        await clock.sleep(pauseMs, signal)
        pauseMs = Math.min(longestPauseMs, pauseMs * 2)
      }
    }
  }

  get #isDirty (): boolean { return this.#dirty.size > 0 || this.#isAllDirty || this.#isFederationDirty }

  async #untilDue (signal: AbortSignal): Promise<void> {
    const { clock } = this.#deps
    const due = Math.min(this.#fullDueMs, this.#retryDueMs) - clock.monotonicMs()
    if (due <= 0) return
    if (!this.#isDirty) {
      const { promise, resolve } = Promise.withResolvers<void>()
      this.#wake = resolve
      await nap(clock, due, promise, signal)
    }
    if (this.#isDirty) await clock.sleep(gatherMs, signal)
  }

  async #round (tenure: Tenure, signal: AbortSignal): Promise<void> {
    const { view, entries, federation, clock, metrics, onRound } = this.#deps
    const startedMs = clock.monotonicMs()
    const isFull = startedMs >= this.#fullDueMs
    // Entries may federate with domains whose bundles come with the relationships.
    if ((isFull || this.#isFederationDirty) && this.#options.scope.kinds.has('ClusterFederatedTrustDomain')) {
      this.#isFederationDirty = false
      const resources = view.federatedTrustDomains().filter(this.#options.scope.cares)
      this.#federation = await reconcileFederation(resources, federation, tenure, signal)
      if (this.#federation.failures.size > 0) metrics.failed('federation')
    }
    const kind = isFull ? 'full' : this.#isAllDirty ? 'all' : 'pods'
    const dirty = this.#dirty
    this.#dirty = new Map()
    let keys: Iterable<string>
    if (kind === 'pods') {
      keys = this.#desired.refreshPods(dirty.keys(), view)
    } else {
      this.#isAllDirty = false
      keys = this.#desired.refresh(view)
    }
    if (isFull) {
      await this.#mirror.read(entries.list(signal), key => this.#desired.of(key).length > 0)
      this.#fullDueMs = startedMs + this.#options.fullEveryMs
      // What was known of an entry is told until it is known anew: whoever reads statuses meanwhile is not told that all is well.
      keys = [...keys, ...this.#mirror.keys(), ...this.#foreign.keys()]
    }
    const refused = isFull || startedMs >= this.#retryDueMs ? this.#failures.keys() : []
    await this.#apply(new Set([...keys, ...refused]), dirty, tenure, signal)
    metrics.round(kind, (clock.monotonicMs() - startedMs) / 1_000)
    onRound(this.#mirror.takeWritten())
  }

  async #apply (keys: ReadonlySet<string>, dirty: ReadonlyMap<string, number>, tenure: Tenure, signal: AbortSignal): Promise<void> {
    const { entries, clock, log, metrics } = this.#deps
    const changes = diffEntries(keys, key => this.#desired.of(key), this.#mirror, this.#options.prefix)
    const deps = { server: entries, mirror: this.#mirror, check: () => tenure.check() }
    const { created, failures, counts } = await applyEntries(changes, deps, signal)
    for (const key of keys) {
      this.#failures.delete(key)
      this.#foreign.delete(key)
      const foreign = this.#desired.of(key).length > 0 && !this.isSet(key) ? this.#mirror.foreign(key) : undefined
      if (foreign !== undefined) this.#foreign.set(key, foreign)
    }
    for (const [key, { operation, message }] of failures) {
      this.#failures.set(key, message)
      metrics.failed('entry')
      log.warn({ operation, key, reason: message }, 'an entry was refused')
    }
    this.#scheduleRetry()
    for (const operation of ['create', 'update', 'remove'] as const) metrics.changed(operation, counts[operation])
    if (counts.create + counts.update + counts.remove > 0) log.info({ ...counts, failed: failures.size }, 'entries changed')
    const now = clock.monotonicMs()
    for (const [uid, sinceMs] of dirty) {
      const declarations = this.#desired.outcomeOf(uid)?.declarations ?? []
      if (declarations.some(({ entry }) => created.has(entry.id))) metrics.lag((now - sinceMs) / 1_000)
    }
  }

  #scheduleRetry (): void {
    if (this.#failures.size === 0) {
      this.#retryDueMs = Infinity
      this.#retryPauseMs = firstPauseMs
      return
    }
    const now = this.#deps.clock.monotonicMs()
    if (this.#retryDueMs > now && this.#retryDueMs !== Infinity) return
    this.#retryDueMs = now + this.#retryPauseMs
    this.#retryPauseMs = Math.min(longestPauseMs, this.#retryPauseMs * 2)
  }
}
