import type { Logger } from '../../runtime/logger.ts'
import { isStop } from '../../runtime/tasks.ts'
import { Watchable } from '../../runtime/watchable.ts'
import { formatSelector, type Selector } from '../../spiffe/selector.ts'
import type { WorkloadIdentity } from '../../spiffe/svid.ts'
import type { MeshWorkload } from '../mesh-state.ts'
import type { LocalIdentity } from './local-identity.ts'

/** A workload as whoever knows of its arrival describes it. */
export interface Arrival {
  readonly uid: string
  readonly name: string
  readonly netnsPath: string
  readonly addresses: readonly string[]
  /** What is known of it for certain: with these its entries are found. */
  readonly selectors: readonly Selector[]
}

/** The part of the agent's identities that is needed here. */
export interface IdentitySource {
  watch (selectors: readonly Selector[], signal: AbortSignal): AsyncIterable<WorkloadIdentity>
}

/** The workloads that are here now, each with the identity it has now; those without one are not in it. */
export interface LocalWorkloads {
  readonly workloads: readonly MeshWorkload[]
  /** By SPIFFE ID. */
  readonly identities: ReadonlyMap<string, LocalIdentity>
}

interface Known {
  arrival: Arrival
  identity: LocalIdentity | undefined
  workload: MeshWorkload | undefined
  /** Whether it is known if it has an identity. */
  answered: boolean
  stop: AbortController
}

/** Follows the identities of the workloads that have arrived and not left. */
export class WorkloadRegistry implements Disposable {
  readonly #identities: IdentitySource
  readonly #log: Logger
  readonly #known = new Map<string, Known>()
  #scanned = false
  readonly #state = new Watchable<LocalWorkloads>({ workloads: [], identities: new Map() })

  constructor (identities: IdentitySource, log: Logger) {
    this.#identities = identities
    this.#log = log
  }

  get state (): LocalWorkloads { return this.#state.value }
  /** All that have arrived, also those without an identity. */
  get arrivals (): readonly Arrival[] { return [...this.#known.values()].map(({ arrival }) => arrival) }

  /** Whether who was here already when the agent started is known, each with its identity if it has one. */
  get complete (): boolean { return this.#scanned && [...this.#known.values()].every(({ answered }) => answered) }

  /** Until it is known whether a workload has an identity, or the signal aborts. */
  async untilAnswered (uid: string, signal: AbortSignal): Promise<void> {
    for await (const _ of this.#state.watch(signal)) if (this.#known.get(uid)?.answered !== false) return
  }

  /** Whoever was here already has arrived. */
  scanned (): void {
    if (this.#scanned) return
    this.#scanned = true
    this.#publish()
  }

  watch (signal: AbortSignal): AsyncGenerator<LocalWorkloads, void, undefined> { return this.#state.watch(signal) }

  /** Of one that is here already: its addresses, or what is known of it, may have changed. */
  arrive (arrival: Arrival): void {
    const known = this.#known.get(arrival.uid)
    if (known !== undefined) {
      const { arrival: before } = known
      known.arrival = arrival
      if (selectorsOf(before) !== selectorsOf(arrival)) {
        known.stop.abort(new Error('more or less is known of the workload'))
        known.stop = new AbortController()
        void this.#follow(known)
      }
      if (!sameArrival(before, arrival)) this.#refresh(known)
      return
    }
    const added: Known = { arrival, identity: undefined, workload: undefined, answered: false, stop: new AbortController() }
    this.#known.set(arrival.uid, added)
    const { uid, name, addresses, selectors } = arrival
    this.#log.info({ uid, name, addresses, selectors: selectors.map(formatSelector) }, 'a workload arrived')
    void this.#follow(added)
  }

  leave (uid: string): void {
    const known = this.#known.get(uid)
    if (known === undefined) return
    this.#known.delete(uid)
    known.stop.abort(new Error('the workload left'))
    this.#log.info({ uid, name: known.arrival.name }, 'a workload left')
    if (known.workload !== undefined) this.#publish()
  }

  [Symbol.dispose] (): void {
    for (const { stop } of this.#known.values()) stop.abort(new Error('the agent is stopping'))
    this.#known.clear()
  }

  async #follow (known: Known): Promise<void> {
    const { signal } = known.stop
    try {
      for await (const { svids: [svid], federatedBundles, awaitsSvids } of this.#identities.watch(known.arrival.selectors, signal)) {
        if (signal.aborted) return
        known.answered ||= svid !== undefined || awaitsSvids !== true
        if (svid?.id !== known.identity?.id) {
          this.#log.info({ uid: known.arrival.uid, name: known.arrival.name, id: svid?.id }, 'a workload\'s identity changed')
        }
        known.identity = svid === undefined ? undefined : { id: svid.id, svid, federatedBundles }
        this.#refresh(known)
      }
    } catch (error) {
      if (isStop(error, signal)) return
      // Without its identity it is nobody: nothing is served for it until it arrives anew.
      this.#log.error({ uid: known.arrival.uid, err: error }, 'a workload\'s identity cannot be followed')
      known.identity = undefined
      this.#refresh(known)
    }
  }

  /** A workload stays the object it was while nothing that its listeners are made of changes. */
  #refresh (known: Known): void {
    const { identity, arrival: { uid, name, netnsPath, addresses } } = known
    const workload = identity === undefined ? undefined : { uid, name, netnsPath, addresses, id: identity.id }
    const same = JSON.stringify(workload) === JSON.stringify(known.workload)
    if (!same) known.workload = workload
    this.#publish()
  }

  #publish (): void {
    const all = [...this.#known.values()]
    this.#state.set({
      workloads: all.flatMap(({ workload }) => workload === undefined ? [] : [workload]),
      identities: new Map(all.flatMap(({ identity }) => identity === undefined ? [] : [[identity.id, identity]]))
    })
  }
}

function selectorsOf ({ selectors }: Arrival): string { return selectors.map(formatSelector).join('\n') }

function sameArrival (a: Arrival, b: Arrival): boolean {
  return a.netnsPath === b.netnsPath && a.addresses.join() === b.addresses.join()
}
