import { readdirSync, readFileSync } from 'node:fs'
import { SpiffeError } from '../../spiffe/errors.ts'
import { groupPaths } from './process-groups.ts'

/** A container that a process may be in, by the names that runtime and kubelet give to control groups. */
export interface ContainerPlace {
  /** Lower case, with dashes; `undefined` where the path does not say, as CRI-O's beside KubeEdge, and that of a static pod. */
  readonly podUid: string | undefined
  /** 64 hex digits. */
  readonly containerId: string
}

/**
 * `pod` and a UID, whose dashes systemd's driver writes as underscores; or a container's ID. CRI-O's `conmon` watches a container from a
 * group of its own whose name has that ID: it is not in the container.
 */
const partPattern = new RegExp([
  String.raw`(?<![0-9a-z])pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12})(?![0-9a-z])`,
  String.raw`(?<![0-9a-z])(?<!conmon-)([0-9a-f]{64})(?![0-9a-z])`
].join('|'), 'gi')

/**
 * Where the kernel says a process is: its control groups of version 1 and 2, as this process sees them. Not by its mounts, which a process
 * makes itself.
 * @returns outermost first; empty: it is in no container
 * @throws {SpiffeError} `workload_attestation_failed`: its groups contradict each other
 */
export function containersOf (pid: number, proc = '/proc'): readonly ContainerPlace[] {
  return readPlaces(readFileSync(`${proc}/${pid}/cgroup`, 'utf8'))
}

/** Where all processes are that are in a container; those that have just ended, or whose groups contradict each other, are left out. */
export function * containersOfAll (
  proc = '/proc'
): Generator<{ readonly pid: number, readonly places: readonly ContainerPlace[] }, void, undefined> {
  for (const name of readdirSync(proc)) {
    if (!/^[1-9]\d*$/.test(name)) continue
    let places: readonly ContainerPlace[]
    try {
      places = containersOf(Number(name), proc)
    } catch {
      continue
    }
    if (places.length > 0) yield { pid: Number(name), places }
  }
}

/** @param text of `/proc/<pid>/cgroup` */
export function readPlaces (text: string): readonly ContainerPlace[] {
  const perGroup = groupPaths(text).map(placesIn).filter(places => places.length > 0)
  // Of a node that is a container itself, some hierarchies end at the node.
  const known = perGroup.filter(places => places.some(({ podUid }) => podUid !== undefined))
  const [first = [], ...others] = known.length > 0 ? known : perGroup
  const key = JSON.stringify(first)
  if (others.every(places => JSON.stringify(places) === key)) return first
  throw new SpiffeError('workload_attestation_failed', 'the control groups of the process name different containers')
}

function placesIn (path: string): ContainerPlace[] {
  const places: ContainerPlace[] = []
  let podUid: string | undefined
  for (const [, uid, containerId] of path.matchAll(partPattern)) {
    if (uid !== undefined) podUid = uid.toLowerCase().replaceAll('_', '-')
    if (containerId === undefined) continue
    places.push({ podUid, containerId: containerId.toLowerCase() })
    podUid = undefined
  }
  return places
}
