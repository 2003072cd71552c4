import { createRequire } from 'node:module'

/** The same on every architecture, as all system calls since 2019. */
const sysPidfdOpen = 434
const enosys = 38
const eperm = 1

type Syscall = (number: number, pid: number, flags: number) => number
type OpenPidfd = (pid: number) => number | 'no such process' | undefined
let open: OpenPidfd | undefined

/**
 * A descriptor that stands for the process with this PID (pidfd_open, Linux 5.3); the caller closes it. The PID of a thread that is not its
 * process's first is none. `undefined`: this kernel, or what confines us, does not offer it.
 */
export function openPidfd (pid: number): number | 'no such process' | undefined {
  return (open ??= loadPidfdOpen())(pid)
}

function loadPidfdOpen (): OpenPidfd {
  const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi')
  // By number: the C library's own wrapper is newer than the systems we run on.
  const syscall = koffi.load(null).func('long syscall(long, int, unsigned int)') as unknown as Syscall
  return pid => {
    const fd = syscall(sysPidfdOpen, pid, 0)
    if (fd >= 0) return fd
    const errno = koffi.errno()
    return errno === enosys || errno === eperm ? undefined : 'no such process'
  }
}
