import { loadCLibrary, type CLibrary } from '../../runtime/c-library.ts'

/** The system calls behind socket diagnosis that Node does not offer. Each returns -1 and sets errno when it fails. */
export interface Kernel {
  readonly socket: (domain: number, type: number, protocol: number) => number
  readonly send: (fd: number, bytes: Uint8Array, length: number, flags: number) => number
  readonly recv: (fd: number, bytes: Uint8Array, length: number, flags: number) => number
  readonly openByHandle: (mountFd: number, handle: Uint8Array, flags: number) => number
  readonly pidfdOpen: (pid: number) => number
  readonly errno: () => number
}

export const errno = { ENOENT: 2, ESRCH: 3, EAGAIN: 11, ESTALE: 116 } as const

// The same number on every architecture that has it (Linux 5.3); musl has no function for it.
const sysPidfdOpen = 434

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
    openByHandle: library.func('int open_by_handle_at(int, const uint8_t *, int)') as Kernel['openByHandle'],
    pidfdOpen: pid => syscall(sysPidfdOpen, pid, 0),
    errno: () => library.errno()
  }
}
