import { SpiffeError } from '../../../spiffe/errors.ts'
import { readPlaces } from '../container-places.ts'
import type { ProcessGroups } from '../process-groups.ts'
import type { ContainerIdMatcher } from './cgroup-matchers.ts'

/**
 * IDs of containers that a process may be in.
 * @param matcher `undefined`: by the names that engines give to groups
 * @returns outermost first; empty: it is in none
 * @throws {SpiffeError} `workload_attestation_failed`: its groups contradict each other, or the matcher finds an empty ID
 */
export function containerIdsOf ({ text, paths }: ProcessGroups, matcher: ContainerIdMatcher | undefined): readonly string[] {
  if (matcher === undefined) return readPlaces(text).map(({ containerId }) => containerId)
  const found = new Set(paths.map(matcher).filter(id => id !== undefined))
  if (found.size > 1) throw new SpiffeError('workload_attestation_failed', 'the control groups of the process name different containers')
  if (found.has('')) throw new SpiffeError('workload_attestation_failed', 'a matcher of control groups found an empty container ID')
  return [...found]
}

/**
 * Whether a process is in the very control groups that a container's first process is in, not in some that only bear the same name: who may
 * make groups, as every user of systemd may below his own, may name them after any container.
 */
export function isSameGroup (process: ProcessGroups, first: ProcessGroups, containerId: string): boolean {
  const own = groupsNamed(process, containerId)
  const container = groupsNamed(first, containerId)
  return own.size > 0 && own.isSubsetOf(container)
}

function groupsNamed ({ paths }: ProcessGroups, containerId: string): Set<string> {
  return new Set(paths.flatMap(path => {
    const parts = path.split('/')
    const named = parts.findIndex(part => part.toLowerCase().includes(containerId.toLowerCase()))
    return named < 0 ? [] : [parts.slice(0, named + 1).join('/')]
  }))
}
