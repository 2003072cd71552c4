import { closeSync } from 'node:fs'
import type { Socket } from 'node:net'
import { SpiffeError } from '../spiffe/errors.ts'
import { readExecutable, readOwner, readPidOf, readStartTime, sameExecutable, type Executable } from '../runtime/process-facts.ts'
import { openPidfd } from './pidfd.ts'
import { peerCredentials, peerPidfd } from './socket-options.ts'

/** The process at the other end of a Unix socket, as the kernel knew it when it connected. */
export interface UnixPeer {
  /** 0: the process is not visible from this PID namespace; `check` will refuse it. */
  readonly pid: number
  readonly uid: number
  readonly gid: number
  /** `pidfd`: cannot be mistaken for another; `start-time`: on a kernel before 6.5, recycled pids are told apart by start time. */
  readonly pinnedBy: 'pidfd' | 'start-time'
  /** False: /proc hides the peer's executable from us, so `check` cannot see it exec another program. */
  readonly executableKnown: boolean
  /** Throws SpiffeError `caller_gone` unless the process that connected still lives and still runs the executable it ran then. */
  check (): void
}

/** Must be called in the listener's `connection` event: nothing of the connection has been read yet. */
export function identifyPeer (socket: Socket): UnixPeer & Disposable {
  // Pinned first, then read: what /proc says is about the pinned process if that still lives afterwards, which `check` finds out.
  const pidfd = peerPidfd(socket)
  return new PinnedPeer(peerCredentials(socket), pidfd)
}

/**
 * The process that has this PID now, pinned as a caller is, for callers that name another process.
 * @throws {SpiffeError} `caller_gone` when there is none
 */
export function pinProcess (pid: number): UnixPeer & Disposable {
  const pidfd = openPidfd(pid)
  const owner = readOwner(pid)
  if (pidfd === 'no such process' || owner === undefined) {
    if (typeof pidfd === 'number') closeSync(pidfd)
    throw new SpiffeError('caller_gone', `there is no process ${pid}`)
  }
  const peer = new PinnedPeer({ pid, ...owner }, pidfd)
  try {
    peer.check()
    return peer
  } catch (error) {
    peer[Symbol.dispose]()
    throw error
  }
}

class PinnedPeer implements UnixPeer {
  readonly pid: number
  readonly uid: number
  readonly gid: number
  #pidfd: number | undefined
  readonly #startTime: string | undefined
  readonly #executable: Executable | undefined
  #closed = false

  constructor ({ pid, uid, gid }: { readonly pid: number, readonly uid: number, readonly gid: number }, pidfd: number | undefined) {
    this.#pidfd = pidfd
    this.pid = pid
    this.uid = uid
    this.gid = gid
    this.#startTime = readStartTime(pid)
    this.#executable = readExecutable(pid)
  }

  get pinnedBy (): 'pidfd' | 'start-time' { return this.#pidfd === undefined ? 'start-time' : 'pidfd' }
  get executableKnown (): boolean { return this.#executable !== undefined }

  check (): void {
    if (this.#closed) throw this.#gone('has disconnected')
    if (this.pid === 0) throw this.#gone('is not visible from this PID namespace')
    if (this.#startTime === undefined) throw this.#gone('ended while it connected')
    if (readStartTime(this.pid) !== this.#startTime) throw this.#gone('ended')
    if (this.#executable !== undefined && !sameExecutable(this.#executable, readExecutable(this.pid))) {
      throw this.#gone('runs another program now')
    }
    // Last, so that all that was read above was about the pinned process.
    if (this.#pidfd !== undefined && readPidOf(this.#pidfd) !== this.pid) throw this.#gone('ended')
  }

  [Symbol.dispose] (): void {
    if (this.#closed) return
    this.#closed = true
    if (this.#pidfd !== undefined) closeSync(this.#pidfd)
    this.#pidfd = undefined
  }

  #gone (how: string): SpiffeError {
    return new SpiffeError('caller_gone', `process ${this.pid} ${how}`)
  }
}
