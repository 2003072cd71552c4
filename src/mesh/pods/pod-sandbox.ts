import type { Logger } from '../../runtime/logger.ts'
import type { Selector } from '../../spiffe/selector.ts'
import { readNetnsAddresses } from '../workloads/netns-addresses.ts'
import type { WorkloadRegistry } from '../workloads/workload-registry.ts'
import { isStillAt, type NetnsPlace, type PinnedPlace } from './netns-place.ts'
import { nameOf, type NodePod } from './node-pod.ts'
import type { RedirectRules } from './redirect-rules.ts'

export interface SandboxDeps {
  readonly registry: Pick<WorkloadRegistry, 'arrive' | 'leave' | 'state'>
  /** `undefined`: somebody else writes them. */
  readonly rules: RedirectRules | undefined
  /** Whether a pod is left alone until it has an identity. */
  readonly passWithoutIdentity: boolean
  readonly log: Logger
}

export type SandboxPod = Pick<NodePod, 'uid' | 'namespace' | 'name'>

/** What is to be in force. */
export interface Wanted {
  readonly enrolled: boolean
  readonly selectors: readonly Selector[]
  /** For people. */
  readonly why: string
  /** When labels were asked for, on the clock that never goes back: what was asked earlier does not count any more. */
  readonly askedAtMs: number
}

/** The network namespace of one incarnation of a pod, and what the mesh does in it. */
export class PodSandbox implements Disposable {
  readonly pod: SandboxPod
  readonly inode: number
  readonly #deps: SandboxDeps
  readonly #pin: PinnedPlace['pin']
  /** Where it is found; whatever told of it last. */
  place: NetnsPlace
  #addresses: readonly string[]
  #wanted: Wanted = { enrolled: false, selectors: [], why: 'nobody has said yet', askedAtMs: Number.NEGATIVE_INFINITY }
  /** `maybe`: as an earlier agent left it. */
  #redirected: 'no' | 'maybe' | 'yes' = 'no'
  #arrived = false
  #gone = false
  #work: Promise<void> = Promise.resolve()

  /** @param addresses empty: they are read from the namespace */
  constructor ({ place, pin, inode }: PinnedPlace, pod: SandboxPod, addresses: readonly string[], deps: SandboxDeps) {
    this.place = place
    this.pod = pod
    this.inode = inode
    this.#pin = pin
    this.#deps = deps
    this.#addresses = addresses
  }

  get uid (): string { return this.#pin.uid }
  get netnsPath (): string { return this.#pin.path }
  get wanted (): Wanted { return this.#wanted }
  get addresses (): readonly string[] { return this.#addresses }
  get hasIdentity (): boolean { return this.#deps.registry.state.workloads.some(({ uid }) => uid === this.uid) }
  get isRedirected (): boolean { return this.#redirected === 'yes' }
  get mayHaveRules (): boolean { return this.#redirected !== 'no' }
  /** What is being made real. */
  get work (): Promise<void> { return this.#work }
  get isThere (): boolean { return isStillAt(this.place, this.inode) }

  /** @returns whether it is news */
  want (wanted: Wanted): boolean {
    const before = this.#wanted
    if (wanted.askedAtMs < before.askedAtMs) return false
    this.#wanted = wanted
    return before.enrolled !== wanted.enrolled || JSON.stringify(before.selectors) !== JSON.stringify(wanted.selectors)
  }

  /** As an earlier agent left it, which had it enrolled: its listeners must not go until it is known whether they should. */
  resume (selectors: readonly Selector[]): void {
    this.#redirected = 'maybe'
    this.#wanted = { ...this.#wanted, enrolled: true, selectors, why: 'it was enrolled before' }
    this.#arrive()
  }

  /**
   * Makes real what is wanted, one change after the other. Rules come before all else, and go before all else: no connection leaves past
   * the proxy while the pod is one of the mesh, and none is refused once it is not.
   * @throws {SpiffeError} `redirect_failed`, `redirect_unavailable`, `netns_unusable`; then it is as it was
   */
  settle (signal: AbortSignal): Promise<void> {
    const settle = () => this.#settle(signal)
    return this.#work = this.#work.then(settle, settle)
  }

  /** It has gone; its rules go with its namespace. */
  [Symbol.dispose] (): void {
    if (this.#gone) return
    this.#gone = true
    this.#leave()
    this.#pin[Symbol.dispose]()
  }

  async #settle (signal: AbortSignal): Promise<void> {
    const { rules, passWithoutIdentity, log } = this.#deps
    if (this.#gone) return
    const { uid, pod } = this
    if (!this.#wanted.enrolled) {
      if (this.#redirected !== 'no') {
        await rules?.remove(this.netnsPath, signal)
        this.#redirected = 'no'
      }
      this.#leave()
      return
    }
    if (passWithoutIdentity) this.#arrive()
    if (this.#redirected !== 'yes' && (!passWithoutIdentity || this.hasIdentity)) {
      await rules?.apply(this.netnsPath, signal)
      this.#redirected = 'yes'
      log.info({ uid, pod: nameOf(pod), why: this.#wanted.why }, 'a pod\'s connections are redirected to the proxy')
    }
    this.#arrive()
  }

  #arrive (): void {
    if (this.#gone) return
    if (this.#addresses.length === 0) this.#addresses = readNetnsAddresses(this.netnsPath)
    this.#arrived = true
    this.#deps.registry.arrive({
      uid: this.uid, name: nameOf(this.pod), netnsPath: this.netnsPath, addresses: this.#addresses, selectors: this.#wanted.selectors
    })
  }

  #leave (): void {
    if (!this.#arrived) return
    this.#arrived = false
    this.#deps.registry.leave(this.uid)
    this.#deps.log.info({ uid: this.uid, pod: nameOf(this.pod), why: this.#gone ? 'it has gone' : this.#wanted.why }, 'a pod left the mesh')
  }
}
