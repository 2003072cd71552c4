import { isStillAt, type NetnsPlace, placeOfProcess } from './netns-place.ts'
import type { NodePods } from './node-pod.ts'

/**
 * Where the network namespaces of running pods are: those of each pod's oldest process, which was there before its containers and of which
 * these cannot be another's.
 * @returns by UID; those without a process are not in it
 */
export function findRunning (pods: NodePods, uids: ReadonlySet<string>): ReadonlyMap<string, NetnsPlace> {
  const found = [...pods.processes(uids)].flatMap(([uid, [pid]]) => {
    const place = pid === undefined ? undefined : placeOfProcess(pid)
    return place === undefined || pid === undefined ? [] : [{ uid, pid, place }]
  })
  if (found.length === 0) return new Map()
  // Once more: of a process that ended meanwhile, another pod's may have the number, and when it started would be that one's.
  const again = pods.processes(uids)
  return new Map(found.filter(({ uid, pid }) => again.get(uid)?.includes(pid) === true).map(({ uid, place }) => [uid, place]))
}

/** Another process of a pod in the same namespace. */
export function findAgain (pods: NodePods, uid: string, inode: number): NetnsPlace | undefined {
  for (const pid of pods.processes(new Set([uid])).get(uid) ?? []) {
    const place = placeOfProcess(pid)
    if (place !== undefined && isStillAt(place, inode)) return place
  }
  return undefined
}
