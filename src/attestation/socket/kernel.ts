import { closeSync, openSync } from 'node:fs'
import { loadCLibrary, type CLibrary } from '../../runtime/c-library.ts'

/** The system calls behind socket diagnosis that Node does not offer. Each returns -1 and sets errno when it fails. */
export interface Kernel {
  readonly socket: (domain: number, type: number, protocol: number) => number
  readonly send: (fd: number, bytes: Uint8Array, length: number, flags: number) => number
  readonly recv: (fd: number, bytes: Uint8Array, length: number, flags: number) => number
  readonly setns: (fd: number, type: number) => number
  readonly openByHandle: (mountFd: number, handle: Uint8Array, flags: number) => number
  readonly pidfdOpen: (pid: number) => number
  readonly errno: () => number
}

export const errno = { ENOENT: 2, ESRCH: 3, EAGAIN: 11, ESTALE: 116 } as const

// The same number on every architecture that has it (Linux 5.3); musl has no function for it.
const sysPidfdOpen = 434
const cloneNewNet = 0x4000_0000

let kernel: Kernel | undefined

/** @throws when the platform has no FFI */
export function loadKernel (): Kernel {
  return kernel ??= bind(loadCLibrary())
}

function bind (library: CLibrary): Kernel {
  const syscall = library.func('long syscall(long, long, long)') as (number: number, pid: number, flags: number) => number
  return {
    socket: library.func('int socket(int, int, int)') as Kernel['socket'],
    send: library.func('long send(int, const uint8_t *, size_t, int)') as Kernel['send'],
    recv: library.func('long recv(int, _Out_ uint8_t *, size_t, int)') as Kernel['recv'],
    setns: library.func('int setns(int, int)') as Kernel['setns'],
    openByHandle: library.func('int open_by_handle_at(int, const uint8_t *, int)') as Kernel['openByHandle'],
    pidfdOpen: pid => syscall(sysPidfdOpen, pid, 0),
    errno: () => library.errno()
  }
}

/**
 * Does something in another network namespace. Synchronous, so that this thread is back in its own before anything else runs.
 * @param path of the namespace, e.g. `/run/netns/blue`; needs CAP_SYS_ADMIN
 */
export function inNamespace<T> (path: string, act: () => T): T {
  const { setns, errno } = loadKernel()
  const own = openSync('/proc/thread-self/ns/net', 'r')
  try {
    const other = openSync(path, 'r')
    try {
      // EINVAL: it is no network namespace.
      if (setns(other, cloneNewNet) !== 0) throw new Error(`cannot enter ${path}: errno ${errno()}`)
      try {
        return act()
      } finally {
        // Whatever this process did from here on would happen in the wrong network.
        if (setns(own, cloneNewNet) !== 0) process.abort()
      }
    } finally {
      closeSync(other)
    }
  } finally {
    closeSync(own)
  }
}
