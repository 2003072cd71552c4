/** The process that called: the kernel's facts at the moment it connected. */
export interface PinnedProcess {
  readonly pid: number
  /** Effective IDs when it connected. */
  readonly uid: number
  readonly gid: number
  /** Throws SpiffeError `caller_gone` unless it still lives and still runs the executable it ran when it connected. */
  check (): void
}
