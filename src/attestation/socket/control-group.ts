import { closeSync, openSync, readFileSync, statfsSync } from 'node:fs'
import { loadKernel } from './kernel.ts'

const cgroup2Magic = 0x6367_7270
const fileIdKernfs = 0xfe
const oDirectoryCloexec = 0o2_200_000

/**
 * The processes of a version-2 control group, without those of groups below it. The group is found by its number, without a walk through
 * all groups, and wherever it is: the agent may see only a part of the hierarchy.
 * @param id as the kernel numbers groups
 * @returns `undefined` when there is no such group, no version-2 hierarchy in sight, or no right to ask (CAP_DAC_READ_SEARCH)
 */
export function controlGroupProcesses (id: bigint): number[] | undefined {
  const mount = hierarchy()
  if (mount === undefined) return undefined
  using scope = new DisposableStack()
  const keep = (fd: number) => scope.adopt(fd, closeSync)
  const group = loadKernel().openByHandle(keep(openSync(mount, 'r')), fileHandle(id), oDirectoryCloexec)
  if (group < 0) return undefined
  try {
    const list = readFileSync(`/proc/self/fd/${keep(group)}/cgroup.procs`, 'latin1')
    // 0: a process that this PID namespace does not show.
    return list.split('\n').filter(line => line !== '').map(Number).filter(pid => pid > 0)
  } catch {
    // Removed meanwhile, or a group of threads.
    return undefined
  }
}

/** Alone, or beside version 1. */
function hierarchy (): string | undefined {
  return ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'].find(path => {
    try {
      return statfsSync(path).type === cgroup2Magic
    } catch {
      return false
    }
  })
}

/** `struct file_handle` as kernfs writes it: the number of the node. */
function fileHandle (id: bigint): Uint8Array {
  const handle = Buffer.alloc(16)
  handle.set(new Uint8Array(Uint32Array.of(8, fileIdKernfs).buffer), 0)
  handle.set(new Uint8Array(BigUint64Array.of(id).buffer), 8)
  return handle
}
