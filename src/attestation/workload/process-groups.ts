import { readFileSync } from 'node:fs'
import { SpiffeError } from '../../spiffe/errors.ts'

/** The control groups of a process, as `/proc/<pid>/cgroup` has them. */
export interface ProcessGroups {
  readonly text: string
  /** Without hierarchy and controllers. */
  readonly paths: readonly string[]
}

/** @throws {SpiffeError} `workload_attestation_failed` */
export function readGroups (pid: number, proc: string): ProcessGroups {
  let text: string
  try {
    text = readFileSync(`${proc}/${pid}/cgroup`, 'utf8')
  } catch (error) {
    throw new SpiffeError('workload_attestation_failed', `the control groups of process ${pid} cannot be read`, { cause: error })
  }
  return { text, paths: groupPaths(text) }
}

/** @param text of `/proc/<pid>/cgroup`, a line for each hierarchy */
export function groupPaths (text: string): readonly string[] {
  return text.split('\n').flatMap(line => /^\d+:[^:]*:(.*)$/.exec(line)?.[1] ?? [])
}
