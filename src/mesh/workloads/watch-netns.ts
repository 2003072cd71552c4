import { readdirSync, watch } from 'node:fs'
import { join } from 'node:path'
import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { nap } from '../../runtime/nap.ts'
import { readNetnsAddresses } from './netns-addresses.ts'
import { type NetnsPin, pinNetns } from './netns-pin.ts'
import { inodeOf } from './stored-workloads.ts'
import type { WorkloadRegistry } from './workload-registry.ts'

export interface WatchNetnsDeps {
  /** Where namespaces get their names, usually `/var/run/netns`; only root writes there. */
  readonly folder: string
  /** For the links by which the proxy finds namespaces. */
  readonly pins: string
  readonly registry: Pick<WorkloadRegistry, 'arrive' | 'leave' | 'scanned'>
  readonly clock: Clock
  readonly log: Logger
}

interface Here { readonly pin: NetnsPin, readonly inode: number, addresses: readonly string[] }

/** A name is made before its namespace is mounted over it, and addresses come later still: neither is an event of the folder. */
const settlingMs = 20
const settledMs = 1_000
const settlingForMs = 5_000

/**
 * Tells the registry of each named network namespace that comes or goes. Its selector is `netns:name:<name>`: what a namespace is called,
 * the host's administrator decides. What is here is held until disposal, so that who goes while nobody looks is missed at the next look.
 */
export class NetnsWatcher implements Disposable {
  readonly #deps: WatchNetnsDeps
  readonly #here = new Map<string, Here>()

  constructor (deps: WatchNetnsDeps) { this.#deps = deps }

  /** Until the signal aborts; may be run again. */
  async run (signal: AbortSignal): Promise<void> {
    const { folder, registry, clock, log } = this.#deps
    let unsettledUntil = clock.monotonicMs() + settlingForMs
    let wake = () => {}
    const watcher = watchFolder(folder, () => {
      unsettledUntil = clock.monotonicMs() + settlingForMs
      wake()
    }, log)
    try {
      while (!signal.aborted) {
        this.#look()
        registry.scanned()
        const settling = clock.monotonicMs() < unsettledUntil
        const changed = Promise.withResolvers<void>()
        wake = changed.resolve
        await nap(clock, settling ? settlingMs : settledMs, changed.promise, signal).catch((error: unknown) => {
          if (!signal.aborted) throw error
        })
      }
    } finally {
      watcher?.close()
    }
  }

  [Symbol.dispose] (): void {
    for (const { pin } of this.#here.values()) pin[Symbol.dispose]()
    this.#here.clear()
  }

  #look (): void {
    const { folder, pins, registry, log } = this.#deps
    const here = this.#here
    const names = namesIn(folder)
    for (const [name, { pin, inode }] of here) {
      if (names.has(name) && inodeOf(join(folder, name)) === inode) continue
      registry.leave(pin.uid)
      pin[Symbol.dispose]()
      here.delete(name)
    }
    for (const name of names) {
      try {
        const known = here.get(name) ?? arrived(folder, pins, name)
        if (known === undefined) continue
        here.set(name, known)
        const found = readNetnsAddresses(known.pin.path)
        if (known.addresses.length > 0 && found.join() === known.addresses.join()) continue
        known.addresses = found
        registry.arrive({
          uid: known.pin.uid, name, netnsPath: known.pin.path, addresses: found, selectors: [{ type: 'netns', value: `name:${name}` }]
        })
      } catch (error) {
        log.warn({ name, err: error }, 'a network namespace cannot be used')
      }
    }
  }
}

function arrived (folder: string, pins: string, name: string): Here | undefined {
  const path = join(folder, name)
  const pin = pinNetns(pins, path, name)
  const inode = inodeOf(path)
  return pin === undefined || inode === undefined ? undefined : { pin, inode, addresses: [] }
}

function namesIn (folder: string): Set<string> {
  try {
    return new Set(readdirSync(folder))
  } catch {
    // No namespace has ever had a name here.
    return new Set()
  }
}

/** A folder that is not there yet is looked for again and again. */
function watchFolder (folder: string, onChange: () => void, log: Logger): { close (): void } | undefined {
  try {
    const failed = (error: Error) => log.warn({ err: error, folder }, 'the folder of namespaces is not watched; looking each second')
    return watch(folder, onChange).on('error', failed)
  } catch {
    return undefined
  }
}
