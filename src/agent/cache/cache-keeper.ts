import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { isSystemError } from '../../runtime/system-error.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { LogPlace } from '../../wire/cursor-codec.ts'
import type { NodeIdentities } from '../node-identities.ts'
import type { NodePolicies } from '../node-policies.ts'
import type { NodeServices } from '../node-services.ts'
import type { Revocations } from '../revocations.ts'
import type { SvidCache } from '../svid-cache.ts'
import type { CacheFile } from './cache-file.ts'

export interface CacheKeeperDeps {
  readonly file: CacheFile
  readonly identities: NodeIdentities
  readonly revocations: Revocations
  readonly svids: SvidCache
  /** `undefined`: this node has nothing to do with services. */
  readonly services?: NodeServices | undefined
  readonly policies: NodePolicies
  readonly agentId: SpiffeId
  /** Whether SVIDs and their keys are kept too. */
  readonly keepKeys: boolean
  readonly maxAgeMs: number
  readonly clock: Clock
  readonly log: Logger
  /** Remembers, apart from the cache, which generation is the newest. */
  readonly onWritten: (generation: number) => Promise<void>
}

/** Where the cache stood when it was read. */
export interface CacheStart {
  readonly generation: number
  readonly cursor: LogPlace | undefined
  readonly heardAt: Date
}

/** Changes that follow each other are written together. */
const pauseMs = 1000

/** Keeps the sealed cache in step with what the node serves: soon after each change, not oftener than every second, and at the end. */
export class CacheKeeper {
  readonly #deps: CacheKeeperDeps
  #generation: number
  #cursor: LogPlace | undefined
  #heardAt: Date
  #writtenHeardAt: Date
  #written: readonly unknown[] = []
  #writing: Promise<void> = Promise.resolve()
  #failing = false

  constructor (deps: CacheKeeperDeps, { generation, cursor, heardAt }: CacheStart) {
    this.#deps = deps
    this.#generation = generation
    this.#cursor = cursor
    this.#heardAt = this.#writtenHeardAt = heardAt
  }

  get cursor (): LogPlace | undefined { return this.#cursor }
  get generation (): number { return this.#generation }

  /** A server answered. */
  heard (): void { this.#heardAt = this.#deps.clock.now() }

  /** All changes up to here have been taken over. */
  reached (cursor: LogPlace): void { this.#cursor = cursor }

  /** Until the signal aborts; a cache that cannot be written costs a warning, nothing else. */
  async run (signal: AbortSignal): Promise<void> {
    const { identities, clock } = this.#deps
    for await (const _ of identities.watchSettled(signal)) {
      if (!this.#isStale()) continue
      await this.flush()
      await clock.sleep(pauseMs, signal)
    }
  }

  /** Writes now what has changed since the last time. */
  flush (): Promise<void> {
    return this.#writing = this.#writing.then(() => this.#write())
  }

  #isStale (): boolean {
    const { identities, maxAgeMs } = this.#deps
    // The age of what stays as it is must not grow while servers are there.
    const aged = this.#heardAt.getTime() - this.#writtenHeardAt.getTime() > maxAgeMs / 10
    return identities.synced && (aged || this.#content().some((part, index) => part !== this.#written[index]))
  }

  /** Compared by identity: what did not change stays the object it was. */
  #content (): readonly unknown[] {
    const { identities, revocations, svids, services, policies, keepKeys } = this.#deps
    const { entries, bundle, federatedBundles } = identities
    return [services?.state, policies.good, entries, bundle, federatedBundles, revocations.known, keepKeys ? svids.changes : 0]
  }

  async #write (): Promise<void> {
    if (!this.#isStale()) return
    const { file, identities, revocations, svids, services, policies, agentId, keepKeys, clock, log, onWritten } = this.#deps
    const content = this.#content()
    const heardAt = this.#heardAt
    const generation = this.#generation + 1
    const entries = [...identities.entries.values()]
    const bundles = [identities.bundle, ...identities.federatedBundles.values()]
    const mesh = services?.synced !== true
      ? undefined
      : { services: [...services.state.services.values()], endpoints: [...services.state.endpoints.values()] }
    try {
      const kept = keepKeys ? svids.kept(entries) : []
      await file.write({
        agentId, generation, writtenAt: clock.now(), heardAt, cursor: this.#cursor, entries, bundles, svids: kept, mesh,
        policies: policies.good, revocations: [...revocations.known.values()]
      })
      // In this order: an agent that dies in between finds a cache newer than it remembers, which is no harm.
      this.#generation = generation
      await onWritten(generation)
      this.#written = content
      this.#writtenHeardAt = heardAt
      this.#failing = false
    } catch (error) {
      if (!(error instanceof SpiffeError) && !isSystemError(error)) throw error
      if (!this.#failing) log.warn({ err: error }, 'the cache cannot be written; after a restart workloads will wait for a server')
      this.#failing = true
    }
  }
}
