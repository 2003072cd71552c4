import { existsSync } from 'node:fs'
import { posix } from 'node:path'
import { SpiffeError } from '../spiffe/errors.ts'

/** Where tools look for control groups. */
const root = '/sys/fs/cgroup'

/** A control group of version 2. */
export interface ControlGroup {
  /** As `/proc/<pid>/cgroup` shows it, e.g. `/system.slice/web.service`. */
  readonly path: string
  /** Where the hierarchy is below `/sys/fs/cgroup`: `unified` beside version 1, else empty. */
  readonly hierarchy: '' | 'unified'
}

/**
 * Names a control group, which need not be there (any more).
 * @param text as `/proc/<pid>/cgroup` shows it, or a folder below `/sys/fs/cgroup`
 * @throws {SpiffeError} `argument_invalid`
 */
export function parseControlGroup (text: string): ControlGroup {
  const isBeside = !existsSync(`${root}/cgroup.controllers`) && existsSync(`${root}/unified/cgroup.controllers`)
  const hierarchy = isBeside ? 'unified' : ''
  const mount = posix.join(root, hierarchy)
  const path = text.startsWith(`${mount}/`) ? text.slice(mount.length) : text
  // Without what a tool's own language would need quoted.
  if (!/^(\/[^/\p{Cc}"*]+)+$/u.test(path) || path.split('/').some(name => name === '.' || name === '..')) {
    throw new SpiffeError('argument_invalid', `${JSON.stringify(text.slice(0, 200))} is no path of a control group below the topmost`)
  }
  return { path, hierarchy }
}

/** How deep a group is: 1 for those directly below the topmost. */
export function levelOf ({ path }: ControlGroup): number { return path.split('/').length - 1 }
