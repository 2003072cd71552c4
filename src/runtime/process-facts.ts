import { readFileSync, statSync } from 'node:fs'

/** Which file a process runs. Not by ctime, which changes when the file is merely replaced under a running process. */
export interface Executable { readonly device: bigint, readonly inode: bigint, readonly bornNs: bigint }

/** Ticks since boot at which a process started; undefined: there is no such process, or it is a zombie. */
export function readStartTime (pid: number): string | undefined {
  if (pid === 0) return undefined
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    // The program's name, in parentheses, may itself hold spaces and parentheses.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19]
  } catch {
    return undefined
  }
}

/** Effective IDs; undefined: there is no such process. */
export function readOwner (pid: number): { readonly uid: number, readonly gid: number } | undefined {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'latin1')
    const [uid, gid] = ['Uid', 'Gid'].map(name => new RegExp(`^${name}:\\t\\d+\\t(\\d+)`, 'm').exec(status)?.[1])
    return uid === undefined || gid === undefined ? undefined : { uid: Number(uid), gid: Number(gid) }
  } catch {
    return undefined
  }
}

/** As `/proc/<pid>/cgroup` lists them; undefined: there is no such process. */
export function readControlGroups (pid: number | 'self'): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/cgroup`, 'latin1')
  } catch {
    return undefined
  }
}

/** Undefined when the process ended, or belongs to a user whose processes we may not inspect. */
export function readExecutable (pid: number): Executable | undefined {
  if (pid === 0) return undefined
  try {
    const { dev, ino, birthtimeNs } = statSync(`/proc/${pid}/exe`, { bigint: true })
    return { device: dev, inode: ino, bornNs: birthtimeNs }
  } catch {
    return undefined
  }
}

export function sameExecutable (a: Executable, b: Executable | undefined): boolean {
  return b !== undefined && a.device === b.device && a.inode === b.inode && a.bornNs === b.bornNs
}

/** The process a pidfd of ours stands for; -1: it ended and was reaped. */
export function readPidOf (pidfd: number): number {
  const pid = /^Pid:\s*(-?\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${pidfd}`, 'latin1'))?.[1]
  return pid === undefined ? -1 : Number(pid)
}
