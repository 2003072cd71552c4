import { type BigIntStats, lstatSync, mkdirSync, readdirSync, rmdirSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { SpiffeError } from '../spiffe/errors.ts'
import type { MountCalls } from './mount-calls.ts'
import { mountedAt } from './mount-table.ts'
import { placeOf } from './target-path.ts'

export interface VolumesConfig {
  /** The folder of the agent's Workload API socket, as this process sees it. */
  readonly source: string
  /** The kubelet's: its pods' volumes are below `pods`, at the same path for this process. */
  readonly kubeletDir: string
}

/** How a volume is; the reason is one sentence. */
export type VolumeCondition = { readonly ok: true } | { readonly ok: false, readonly reason: string }

/** More on one another than anything but a mistake makes. */
const mostMounts = 16

/**
 * Volumes: the folder of the agent's socket, mounted in pods' folders. The folder and not the socket, since an agent that starts again
 * makes a new socket, which appears in each pod as it appears there. Nothing is kept but the kernel's own table, so that another process
 * can take over; every method is one step for the others, as none of them waits.
 */
export class Volumes {
  readonly #source: string
  readonly #podsDir: string
  readonly #calls: MountCalls

  constructor ({ source, kubeletDir }: VolumesConfig, calls: MountCalls) {
    this.#source = source
    this.#podsDir = join(kubeletDir, 'pods')
    this.#calls = calls
  }

  /** Whether the agent's folder is there. */
  get ready (): boolean { return this.#folder() !== undefined }

  /**
   * Mounts at a target; one that is mounted as it should be is left alone, one that shows a folder which is gone is mounted anew.
   * @returns whether anything was done
   * @throws {SpiffeError} `volume_request_invalid`, `volume_source_missing`, `volume_mount_failed`
   */
  publish (target: string): boolean {
    const folder = this.#folder()
    if (folder === undefined) throw new SpiffeError('volume_source_missing', `${this.#source} is no folder: the agent has not made it yet`)
    const place = placeOf(target, this.#podsDir)
    if (place === undefined) throw new SpiffeError('volume_request_invalid', `${dirname(target)} is not there`)
    makeFolder(place)
    if (this.#conditionOf(place, folder).ok) return false
    this.#unmountAll(place)
    const failure = this.#calls.bindReadOnly(this.#source, place)
    if (failure === undefined) return true
    throw new SpiffeError('volume_mount_failed', `${this.#source} cannot be mounted at ${place}: ${failure}`)
  }

  /**
   * Takes the mount and its folder away; what is not there is no mistake.
   * @returns whether anything was done
   * @throws {SpiffeError} `volume_request_invalid`, `volume_mount_failed`
   */
  unpublish (target: string): boolean {
    const place = placeOf(target, this.#podsDir)
    if (place === undefined || statOf(place) === undefined) return false
    this.#unmountAll(place)
    try {
      // Never what is in it.
      rmdirSync(place)
    } catch (error) {
      throw new SpiffeError('volume_mount_failed', `${place} cannot be removed: ${(error as Error).message}`, { cause: error })
    }
    return true
  }

  /** @throws {SpiffeError} `volume_request_invalid`, `volume_not_found` */
  condition (path: string): VolumeCondition {
    const place = placeOf(path, this.#podsDir)
    if (place === undefined || statOf(place) === undefined) throw new SpiffeError('volume_not_found', `nothing is at ${path}`)
    return this.#conditionOf(place, this.#folder())
  }

  #conditionOf (place: string, folder: BigIntStats | undefined): VolumeCondition {
    const bad = (reason: string) => ({ ok: false, reason } as const)
    const mount = mountedAt(place)
    if (mount === undefined) return bad('nothing is mounted')
    if (!mount.readOnly) return bad('the mount is writable')
    try {
      readdirSync(place)
    } catch (error) {
      return bad(`the folder cannot be read: ${(error as Error).message}`)
    }
    if (folder === undefined) return bad(`the agent's folder ${this.#source} is gone`)
    const here = statSync(place, { bigint: true })
    if (here.dev !== folder.dev || here.ino !== folder.ino) {
      return bad(`the agent's folder ${this.#source} was made anew, and an older one is mounted`)
    }
    return { ok: true }
  }

  #unmountAll (place: string): void {
    for (let left = mostMounts; mountedAt(place) !== undefined; left--) {
      const failure = left === 0 ? 'too many are on one another' : this.#calls.unmount(place)
      if (failure !== undefined) throw new SpiffeError('volume_mount_failed', `the mount at ${place} cannot be taken away: ${failure}`)
    }
  }

  #folder (): BigIntStats | undefined {
    const stat = statSync(this.#source, { bigint: true, throwIfNoEntry: false })
    return stat?.isDirectory() === true ? stat : undefined
  }
}

/** @throws {SpiffeError} `volume_request_invalid` */
function makeFolder (place: string): void {
  const stat = statOf(place)
  if (stat === undefined) mkdirSync(place, { mode: 0o750 })
  else if (!stat.isDirectory()) throw new SpiffeError('volume_request_invalid', `${place} is no folder`)
}

function statOf (path: string): BigIntStats | undefined {
  return lstatSync(path, { bigint: true, throwIfNoEntry: false })
}
