import { closeSync, readFileSync, readlinkSync } from 'node:fs'
import { readExecutable, readPidOf, readStartTime, sameExecutable, type Executable } from '../../runtime/process-facts.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { PinnedProcess } from '../workload/pinned-process.ts'
import { parseProcessStatus } from '../workload/unix/process-status.ts'
import { errno, loadKernel } from './kernel.ts'

/** One open file of a process. */
export interface Descriptor { readonly pid: number, readonly fd: string }

/**
 * Pins the process before anything is read of it.
 * @param link what `/proc/<pid>/fd/<fd>` shows: `socket:[<inode>]`
 * @returns `undefined` when it ended or let go of the socket meanwhile
 */
export function pinHolder (descriptor: Descriptor, link: string): SocketHolder | undefined {
  using scope = new DisposableStack()
  const holder = scope.use(SocketHolder.pin(descriptor, link))
  try {
    holder?.check()
  } catch (error) {
    if (error instanceof SpiffeError && error.code === 'caller_gone') return undefined
    throw error
  }
  scope.move()
  return holder
}

interface HolderFacts {
  readonly link: string
  readonly pidfd: number | undefined
  readonly startTime: string
  readonly uid: number
  readonly gid: number
}

/** A process that has a socket among its files, told from others that are given its number later. */
export class SocketHolder implements PinnedProcess, Disposable {
  readonly pid: number
  readonly uid: number
  readonly gid: number
  readonly #path: string
  readonly #link: string
  readonly #startTime: string
  readonly #executable: Executable | undefined
  #pidfd: number | undefined

  private constructor ({ pid, fd }: Descriptor, { link, pidfd, startTime, uid, gid }: HolderFacts) {
    this.pid = pid
    this.uid = uid
    this.gid = gid
    this.#path = `/proc/${pid}/fd/${fd}`
    this.#link = link
    this.#pidfd = pidfd
    this.#startTime = startTime
    this.#executable = readExecutable(pid)
  }

  static pin (descriptor: Descriptor, link: string): SocketHolder | undefined {
    const { pid } = descriptor
    const { pidfdOpen, errno: lastErrno } = loadKernel()
    const pidfd = pidfdOpen(pid)
    if (pidfd < 0 && lastErrno() === errno.ESRCH) return undefined
    const startTime = readStartTime(pid)
    const ids = readIds(pid)
    if (startTime !== undefined && ids !== undefined) {
      return new SocketHolder(descriptor, { link, pidfd: pidfd < 0 ? undefined : pidfd, startTime, ...ids })
    }
    if (pidfd >= 0) closeSync(pidfd)
    return undefined
  }

  /** Throws SpiffeError `caller_gone` unless it lives, runs what it ran and has the socket still. */
  check (): void {
    if (readStartTime(this.pid) !== this.#startTime) throw this.#gone('ended')
    if (this.#executable !== undefined && !sameExecutable(this.#executable, readExecutable(this.pid))) {
      throw this.#gone('runs another program now')
    }
    if (readLink(this.#path) !== this.#link) throw this.#gone('has let go of the connection')
    // Last, so that all that was read above was about the pinned process.
    if (this.#pidfd !== undefined && readPidOf(this.#pidfd) !== this.pid) throw this.#gone('ended')
  }

  [Symbol.dispose] (): void {
    if (this.#pidfd !== undefined) closeSync(this.#pidfd)
    this.#pidfd = undefined
  }

  #gone (how: string): SpiffeError {
    return new SpiffeError('caller_gone', `process ${this.pid} ${how}`)
  }
}

function readIds (pid: number): { uid: number, gid: number } | undefined {
  let status: string
  try {
    status = readFileSync(`/proc/${pid}/status`, 'latin1')
  } catch {
    return undefined
  }
  const { effectiveUid: uid, effectiveGid: gid } = parseProcessStatus(status)
  return { uid, gid }
}

function readLink (path: string): string | undefined {
  try {
    return readlinkSync(path)
  } catch {
    return undefined
  }
}
