import type { Clock } from '../../runtime/clock.ts'
import { isStop } from '../../runtime/tasks.ts'
import { codeOf } from '../../spiffe/errors.ts'
import { formatSelector, parseSelector } from '../../spiffe/selector.ts'
import type { WorkloadRegistry } from '../workloads/workload-registry.ts'
import { enrolmentAsKnown, enrolmentNow, type EnrolmentRules, warnOfMistakes } from './decide-enrolment.ts'
import type { Enrolment } from './enrolment.ts'
import { findNamedPod } from './find-named-pod.ts'
import { isStillAt, type NetnsPlace, pathOfPlace, pinPlace } from './netns-place.ts'
import { nameOf, type NodePod, type NodePods, type PodName } from './node-pod.ts'
import type { PodCounts } from './pod-metrics.ts'
import { PodSandbox, type SandboxDeps, type SandboxPod } from './pod-sandbox.ts'
import { findAgain, findRunning } from './running-places.ts'
import { readStoredSandboxes, type StoredSandbox, writeStoredSandboxes } from './stored-sandboxes.ts'

export interface PodEnrolmentDeps extends SandboxDeps, EnrolmentRules {
  readonly pods: NodePods
  readonly registry: Pick<WorkloadRegistry, 'arrive' | 'leave' | 'state' | 'watch'>
  /** Where what is known is kept. */
  readonly file: string
  /** For the links by which the proxy finds namespaces. */
  readonly pins: string
  /** Between two looks at labels. */
  readonly intervalMs: number
  /** Whoever was here when the agent started has been looked at. */
  readonly onLooked: () => void
  readonly clock: Clock
}

/** A pod's network as its runtime announces it. */
export interface PodAnnouncement {
  /** The runtime's own name of the sandbox. */
  readonly id: string
  readonly network: string
  readonly netnsPath: string
  readonly addresses: readonly string[]
  readonly pod: PodName
}

interface Decided { readonly pod: NodePod, readonly enrolment: Enrolment }

/**
 * Which pods of this node belong to the mesh, as labels say it: those that a runtime announces, and those that are found running. What a
 * label changes is made real while the pod runs. While nobody says what labels are, each pod stays what it was.
 */
export class PodEnrolment implements Disposable {
  readonly #deps: PodEnrolmentDeps
  readonly #sandboxes = new Map<string, PodSandbox>()
  #writing: Promise<void> = Promise.resolve()
  #written = ''

  private constructor (deps: PodEnrolmentDeps) { this.#deps = deps }

  /** @throws {SpiffeError} `file_unusable` */
  static async open (deps: PodEnrolmentDeps): Promise<PodEnrolment> {
    const pods = new PodEnrolment(deps)
    for (const stored of await readStoredSandboxes(deps.file)) pods.#resume(stored)
    return pods
  }

  get counts (): PodCounts {
    const all = [...this.#sandboxes.values()]
    const enrolled = all.filter(({ wanted }) => wanted.enrolled)
    const nobody = enrolled.filter(({ hasIdentity }) => !hasIdentity)
    return { enrolled: enrolled.length - nobody.length, without_identity: nobody.length, left_alone: all.length - enrolled.length }
  }

  /** Whether a workload of the registry is a pod: its rules are this one's business. */
  has (uid: string): boolean { return this.#sandboxes.has(uid) }

  /** @param id as it was announced */
  find (id: string): PodSandbox | undefined {
    return [...this.#sandboxes.values()].find(({ place }) => place.kind === 'announced' && place.id === id)
  }

  /**
   * A runtime starts a pod: if labels say that it belongs to the mesh its connections are redirected when this returns, though its
   * listeners may not be there yet. Doing it again is harmless.
   * @throws {SpiffeError} `workload_attestation_failed`, `kubernetes_unreachable`, `netns_unusable`, `redirect_failed`,
   * `redirect_unavailable`, `file_unusable`
   */
  async add (announcement: PodAnnouncement, signal: AbortSignal): Promise<{ readonly sandbox: PodSandbox, readonly enrolment: Enrolment }> {
    const { id, network, netnsPath: path, addresses } = announcement
    const askedAtMs = this.#deps.clock.monotonicMs()
    const pod = await findNamedPod(this.#deps.pods, announcement.pod, signal)
    const enrolment = await enrolmentNow(pod, this.#deps, signal)
    const before = this.find(id)
    const sandbox = this.#take({ kind: 'announced', id, network, path }, pod, addresses)
    if (before !== undefined && before !== sandbox) this.#drop(before)
    sandbox.want({ enrolled: enrolment.enrolled, why: enrolment.why, selectors: pod.selectors, askedAtMs })
    await this.#save()
    await sandbox.settle(signal)
    return { sandbox, enrolment }
  }

  /** Of one that is not here: nothing. */
  async remove (id: string): Promise<void> {
    const sandbox = this.find(id)
    if (sandbox === undefined) return
    this.#drop(sandbox)
    await this.#save()
  }

  /** All others that were announced for that network have gone. */
  async retain (network: string, ids: ReadonlySet<string>): Promise<void> {
    const isOver = ({ place }: PodSandbox) => place.kind === 'announced' && place.network === network && !ids.has(place.id)
    for (const sandbox of [...this.#sandboxes.values()].filter(isOver)) this.#drop(sandbox)
    await this.#save()
  }

  /** Once all that is under way has come to its end. */
  async settled (): Promise<void> {
    await Promise.all([...this.#sandboxes.values()].map(({ work }) => work.catch(() => {})))
    await this.#writing.catch(() => {})
  }

  tasks (): ((signal: AbortSignal) => Promise<void>)[] {
    const { registry, clock, intervalMs } = this.#deps
    return [
      async signal => {
        while (!signal.aborted) {
          await this.#look(signal)
          await clock.sleep(intervalMs, signal)
        }
      },
      async signal => {
        // Of pods that are left alone until they have an identity.
        for await (const { workloads } of registry.watch(signal)) {
          for (const { uid } of workloads) {
            const sandbox = this.#sandboxes.get(uid)
            if (sandbox !== undefined && !sandbox.isRedirected) await this.#settle(sandbox, signal)
          }
        }
      }
    ]
  }

  [Symbol.dispose] (): void {
    for (const sandbox of this.#sandboxes.values()) sandbox[Symbol.dispose]()
  }

  async #look (signal: AbortSignal): Promise<void> {
    const { pods, namespaces, clock, onLooked } = this.#deps
    const askedAtMs = clock.monotonicMs()
    for (const sandbox of this.#sandboxes.values()) this.#check(sandbox)
    let all: ReadonlyMap<string, NodePod>
    try {
      all = await pods.list(signal)
    } catch (error) {
      signal.throwIfAborted()
      return this.#undecided('the kubelet does not say which pods there are: all stay what they are', error)
    }
    const networked = [...all.values()].filter(({ hostNetwork, ended }) => !hostNetwork && !ended)
    const said = await namespaces?.refresh(new Set(networked.map(({ namespace }) => namespace)), signal)
    if (said !== undefined && said.failed > 0) {
      this.#undecided(`the labels of ${said.failed} namespaces cannot be had: their pods stay what they are`, said.reason)
    }
    const decided = networked.flatMap((pod): Decided[] => {
      const enrolment = enrolmentAsKnown(pod, this.#deps)
      return enrolment === undefined ? [] : [{ pod, enrolment }]
    })
    await this.#findRunning(decided.filter(({ enrolment }) => enrolment.enrolled).map(({ pod }) => pod), signal)
    const byUid = new Map(decided.map(one => [one.pod.uid, one]))
    for (const sandbox of this.#sandboxes.values()) {
      const found = byUid.get(sandbox.pod.uid)
      if (found !== undefined) this.#tell(sandbox, found, askedAtMs)
    }
    // Before and after: an agent that is killed in between must know which namespaces may have rules.
    await this.#keep()
    for (const sandbox of this.#sandboxes.values()) await this.#settle(sandbox, signal)
    await this.#keep()
    onLooked()
  }

  #tell (sandbox: PodSandbox, { pod, enrolment }: Decided, askedAtMs: number): void {
    const { enrolled, why } = enrolment
    const before = sandbox.wanted.enrolled
    if (!sandbox.want({ enrolled, why, selectors: pod.selectors, askedAtMs })) return
    const about = { pod: nameOf(pod), uid: sandbox.uid, why }
    if (before !== enrolled) this.#deps.log.info(about, enrolled ? 'a pod is enrolled' : 'a pod is withdrawn from the mesh')
    warnOfMistakes(pod, enrolment, this.#deps)
  }

  /** Pods of which no runtime has told this agent, by their processes. */
  async #findRunning (enrolled: readonly NodePod[], signal: AbortSignal): Promise<void> {
    const { pods, rules, metrics, log } = this.#deps
    const known = new Set([...this.#sandboxes.values()].map(({ pod }) => pod.uid))
    const missing = new Map(enrolled.filter(({ uid }) => !known.has(uid)).map(pod => [pod.uid, pod]))
    if (missing.size === 0) return
    for (const [uid, place] of findRunning(pods, new Set(missing.keys()))) {
      const pod = missing.get(uid)
      if (pod === undefined) continue
      try {
        const sandbox = this.#take(place, pod, [])
        if (!sandbox.isThere) {
          this.#drop(sandbox)
          continue
        }
        if (rules !== undefined && !await rules.exist(sandbox.netnsPath, signal)) {
          metrics.warn('found_unprotected')
          const about = { pod: nameOf(pod), uid: sandbox.uid }
          log.warn(about, 'a pod of the mesh ran outside of it until now; connections that are open stay so')
        }
      } catch (error) {
        if (isStop(error, signal)) throw error
        this.#notSettled(pod, error)
      }
    }
  }

  async #settle (sandbox: PodSandbox, signal: AbortSignal): Promise<void> {
    try {
      await sandbox.settle(signal)
    } catch (error) {
      if (isStop(error, signal)) throw error
      this.#notSettled(sandbox.pod, error)
    }
  }

  /** @throws {SpiffeError} `netns_unusable` */
  #take (place: NetnsPlace, pod: SandboxPod, addresses: readonly string[]): PodSandbox {
    const known = [...this.#sandboxes.values()].find(one => one.pod.uid === pod.uid && isStillAt(place, one.inode))
    if (known !== undefined) {
      known.place = place
      return known
    }
    const { uid, namespace, name } = pod
    const sandbox = new PodSandbox(pinPlace(place, this.#deps.pins, uid), { uid, namespace, name }, addresses, this.#deps)
    this.#sandboxes.set(sandbox.uid, sandbox)
    return sandbox
  }

  /** Of one that was found by a process, another process may still be there. */
  #check (sandbox: PodSandbox): void {
    if (sandbox.isThere) return
    const elsewhere = sandbox.place.kind === 'process' ? findAgain(this.#deps.pods, sandbox.pod.uid, sandbox.inode) : undefined
    if (elsewhere === undefined) this.#drop(sandbox)
    else sandbox.place = elsewhere
  }

  #drop (sandbox: PodSandbox): void {
    this.#sandboxes.delete(sandbox.uid)
    sandbox[Symbol.dispose]()
  }

  #resume ({ id, network, podUid, netnsPath, inode, startedAt, addresses, selectors, enrolled, ...names }: StoredSandbox): void {
    const pid = Number(/^\/proc\/(\d+)\/ns\/net$/.exec(netnsPath)?.[1])
    const place: NetnsPlace = startedAt === undefined
      ? { kind: 'announced', id, network, path: netnsPath } : { kind: 'process', pid, startedAt }
    if (!isStillAt(place, inode)) return
    try {
      const sandbox = this.#take(place, { uid: podUid, ...names }, addresses)
      if (enrolled) sandbox.resume(selectors.map(parseSelector))
    } catch (error) {
      if (codeOf(error) === undefined) throw error
      this.#notSettled({ uid: podUid, ...names }, error)
    }
  }

  /** One after another: the last one written is the newest. */
  #save (): Promise<void> {
    const write = async () => {
      const all = [...this.#sandboxes.values()].map(storedOf)
      const text = JSON.stringify(all)
      if (text === this.#written) return
      await writeStoredSandboxes(this.#deps.file, all)
      this.#written = text
    }
    return this.#writing = this.#writing.then(write, write)
  }

  async #keep (): Promise<void> {
    await this.#save().catch((error: unknown) => this.#deps.log.error({ err: error }, 'the pods that are known cannot be kept'))
  }

  #undecided (what: string, error: unknown): void {
    this.#deps.metrics.warn('undecided')
    this.#deps.log.warn({ err: error }, what)
  }

  #notSettled (pod: SandboxPod, error: unknown): void {
    this.#deps.metrics.warn('not_settled')
    this.#deps.log.error({ pod: nameOf(pod), err: error }, 'what a pod is to the mesh cannot be made real; trying again')
  }
}

function storedOf ({ pod, place, inode, addresses, wanted, mayHaveRules }: PodSandbox): StoredSandbox {
  return {
    ...place.kind === 'announced' ? { id: place.id, network: place.network } : { id: '', network: '', startedAt: place.startedAt },
    podUid: pod.uid, namespace: pod.namespace, name: pod.name, netnsPath: pathOfPlace(place), inode, addresses: [...addresses],
    selectors: wanted.selectors.map(formatSelector), enrolled: wanted.enrolled || mayHaveRules
  }
}
