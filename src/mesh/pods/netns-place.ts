import { statSync } from 'node:fs'
import { readStartTime } from '../../runtime/process-facts.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { type NetnsPin, pinNetns } from '../workloads/netns-pin.ts'

/** Where a pod's network namespace is found. */
export type NetnsPlace =
  /** As its runtime announced it, under its own ID of the pod's sandbox. */
  | { readonly kind: 'announced', readonly id: string, readonly network: string, readonly path: string }
  /** That of a process of the pod. */
  | { readonly kind: 'process', readonly pid: number, readonly startedAt: string }

export interface PinnedPlace { readonly place: NetnsPlace, readonly pin: NetnsPin, readonly inode: number }

export function placeOfProcess (pid: number): NetnsPlace | undefined {
  const startedAt = readStartTime(pid)
  return startedAt === undefined ? undefined : { kind: 'process', pid, startedAt }
}

export function pathOfPlace (place: NetnsPlace): string {
  return place.kind === 'announced' ? place.path : `/proc/${place.pid}/ns/net`
}

/** Whether the namespace of that number is still found there. */
export function isStillAt (place: NetnsPlace, inode: number): boolean {
  if (numberAt(pathOfPlace(place)) !== inode) return false
  return place.kind === 'announced' || readStartTime(place.pid) === place.startedAt
}

/**
 * Holds it open.
 * @param name of the pod's UID: with the namespace's number it is the same however the namespace was found
 * @throws {SpiffeError} `netns_unusable`: it is none, or the host's own
 */
export function pinPlace (place: NetnsPlace, pins: string, name: string): PinnedPlace {
  const path = pathOfPlace(place)
  const pin = pinNetns(pins, path, name)
  if (pin === undefined) throw new SpiffeError('netns_unusable', `${path} is no network namespace`)
  const inode = numberAt(pin.path)
  if (inode !== undefined && ![numberAt('/proc/self/ns/net'), numberAt('/proc/1/ns/net')].includes(inode)) return { place, pin, inode }
  pin[Symbol.dispose]()
  throw new SpiffeError('netns_unusable', `${path} is the namespace of the host`)
}

/** As the kernel numbers it; `undefined`: there is none, or it may not be looked at. */
function numberAt (path: string): number | undefined {
  try {
    return statSync(path).ino
  } catch {
    return undefined
  }
}
