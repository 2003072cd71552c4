import { SpiffeError } from '../../spiffe/errors.ts'
import { formatSelector, parseSelector, type Selector } from '../../spiffe/selector.ts'
import { readNetnsAddresses } from './netns-addresses.ts'
import { type NetnsPin, pinNetns } from './netns-pin.ts'
import { inodeOf, readStoredWorkloads, type StoredWorkload, writeStoredWorkloads } from './stored-workloads.ts'
import type { WorkloadRegistry } from './workload-registry.ts'

export interface Announcement {
  readonly id: string
  readonly name: string
  readonly netnsPath: string
  /** Empty: they are read from the namespace. */
  readonly addresses: readonly string[]
  readonly selectors: readonly Selector[]
}

export interface AnnouncedDeps {
  readonly file: string
  /** For the links by which the proxy finds namespaces. */
  readonly pins: string
  readonly registry: Pick<WorkloadRegistry, 'arrive' | 'leave'>
}

/** Workloads that a container runtime announces. They outlive the agent: what is in their file arrives again when it starts. */
export class AnnouncedWorkloads implements Disposable {
  readonly #deps: AnnouncedDeps
  readonly #here = new Map<string, { readonly stored: StoredWorkload, readonly pin: NetnsPin }>()
  #writing: Promise<void> = Promise.resolve()

  private constructor (deps: AnnouncedDeps) { this.#deps = deps }

  /** @throws {SpiffeError} `file_unusable` */
  static async open (deps: AnnouncedDeps): Promise<AnnouncedWorkloads> {
    const workloads = new AnnouncedWorkloads(deps)
    for (const { inode: _, selectors, ...stored } of await readStoredWorkloads(deps.file)) {
      workloads.#take({ ...stored, selectors: selectors.map(parseSelector) })
    }
    return workloads
  }

  /** @returns the uid under which it is here. @throws {SpiffeError} `netns_unusable`, `file_unusable` */
  async add (announcement: Announcement): Promise<string> {
    const uid = this.#take(announcement)
    await this.#write()
    return uid
  }

  /** Of one that is not here: nothing. */
  async remove (id: string): Promise<void> {
    if (!this.#drop(id)) return
    await this.#write()
  }

  /** All others that were announced for that network have gone. */
  async retain (network: string, ids: ReadonlySet<string>): Promise<void> {
    const gone = [...this.#here].filter(([id, { stored }]) => !ids.has(id) && stored.selectors.includes(`cni:network:${network}`))
    for (const [id] of gone) this.#drop(id)
    if (gone.length > 0) await this.#write()
  }

  /** @returns the uid under which it is here */
  find (id: string): string | undefined { return this.#here.get(id)?.pin.uid }

  [Symbol.dispose] (): void {
    for (const { pin } of this.#here.values()) pin[Symbol.dispose]()
  }

  #take ({ id, name, netnsPath, addresses, selectors }: Announcement): string {
    const known = this.#here.get(id)
    const inode = inodeOf(netnsPath)
    if (known !== undefined && known.stored.inode !== inode) this.#drop(id)
    const pin = this.#here.get(id)?.pin ?? pinNetns(this.#deps.pins, netnsPath, id)
    if (pin === undefined || inode === undefined) throw new SpiffeError('netns_unusable', `${netnsPath} is no network namespace`)
    const stored = { id, name, netnsPath, inode, addresses, selectors: selectors.map(formatSelector) }
    this.#here.set(id, { stored, pin })
    const found = addresses.length > 0 ? addresses : readNetnsAddresses(pin.path)
    this.#deps.registry.arrive({ uid: pin.uid, name, netnsPath: pin.path, addresses: found, selectors })
    return pin.uid
  }

  #drop (id: string): boolean {
    const known = this.#here.get(id)
    if (known === undefined) return false
    this.#here.delete(id)
    this.#deps.registry.leave(known.pin.uid)
    known.pin[Symbol.dispose]()
    return true
  }

  /** One after another: the last one written is the newest. */
  #write (): Promise<void> {
    const write = () => writeStoredWorkloads(this.#deps.file, [...this.#here.values()].map(({ stored }) => stored))
    return this.#writing = this.#writing.then(write, write)
  }
}
