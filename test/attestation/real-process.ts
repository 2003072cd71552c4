import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants, copyFileSync, readlinkSync } from 'node:fs'
import type { PinnedProcess } from '../../src/attestation/workload/pinned-process.ts'
import { readExecutable, readStartTime, sameExecutable, type Executable } from '../../src/runtime/process-facts.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { eventually } from '../fakes/eventually.ts'

export const isRoot = process.getuid?.() === 0

/** Also false for root where the file system is read-only. */
export function mayWrite (path: string): boolean {
  try {
    accessSync(path, constants.W_OK)
    return true
  } catch {
    return false
  }
}

/** A child that runs until it is disposed. */
export interface RealProcess extends AsyncDisposable {
  readonly pid: number
  readonly child: ChildProcess
}

/** @param runs what the link `/proc/<pid>/exe` shows once it has begun; wrappers such as `setpriv` execute it themselves */
export async function startProcess (command: readonly string[], runs: string): Promise<RealProcess> {
  const child = spawn(command[0] as string, command.slice(1), { stdio: ['pipe', 'ignore', 'inherit'] })
  await once(child, 'spawn')
  const pid = child.pid as number
  await until(() => readlinkSync(`/proc/${pid}/exe`) === runs)
  return {
    pid,
    child,
    async [Symbol.asyncDispose] () {
      if (child.exitCode !== null || child.signalCode !== null) return
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
  }
}

/** A copy of `sleep`, so that path and content are the test's own. */
export function copySleep (path: string): string {
  copyFileSync('/bin/sleep', path)
  return path
}

/** What the agent knows of a caller, by start time and executable. */
export function pin (pid: number, uid = process.getuid?.() ?? 0, gid = process.getgid?.() ?? 0): PinnedProcess {
  const startTime = readStartTime(pid)
  const executable = readExecutable(pid)
  return {
    pid,
    uid,
    gid,
    check () {
      const lives = startTime !== undefined && readStartTime(pid) === startTime
      if (!lives || !sameExecutable(executable as Executable, readExecutable(pid))) throw new SpiffeError('caller_gone', `process ${pid}`)
    }
  }
}

/** Waits for a condition about another process; one that throws is not met. */
export async function until (isMet: () => boolean): Promise<void> {
  await eventually(() => String(isMet), () => {
    try {
      return isMet()
    } catch {
      return false
    }
  }, 60_000)
}
