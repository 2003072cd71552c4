import { stat } from 'node:fs/promises'
import type { Clock } from '../../runtime/clock.ts'
import { fingerprintOf } from './read-policy-files.ts'

/** Who writes many files is given so long to be done. */
const settleMs = 200
/** No file system tells of all changes: a mounted folder is swapped by a symbolic link. */
const lookEveryMs = 500

export interface ChangesOptions {
  /** What `stateOf` said of what was read; without it, or when that is no longer so, it begins with a change. */
  readonly seen?: string
  /** Files that count besides, such as those that documents name; asked before each look. */
  readonly besides?: () => Iterable<string>
}

/**
 * Yields after each change of policy files that has come to rest. What is yielded tells whoever has read them then whether that is still
 * so: half of a set that somebody began to write again may be another's, and that change is told of next. Throws the signal's reason when
 * it aborts.
 */
export async function * policyFileChanges (
  paths: readonly string[], clock: Clock, signal: AbortSignal, { seen, besides = () => [] }: ChangesOptions = {}
): AsyncGenerator<() => Promise<boolean>, never> {
  for (let last = seen; ;) {
    const others = [...besides()]
    const look = () => stateOf(paths, others)
    let state = await look()
    for (let before = last; state !== last && state !== before; state = await look()) {
      before = state
      await clock.sleep(settleMs, signal)
    }
    if (state !== last) {
      last = state
      yield async () => await look() === state
    }
    await clock.sleep(lookEveryMs, signal)
  }
}

/** Another text after each change, also when the files cannot be read. */
export async function stateOf (paths: readonly string[], besides: Iterable<string> = []): Promise<string> {
  try {
    const others = await Promise.all([...besides].map(stateOfFile))
    return [await fingerprintOf(paths), ...others].join('\n')
  } catch (error) {
    return `unreadable: ${(error as Error).message}`
  }
}

async function stateOfFile (path: string): Promise<string> {
  try {
    const { mtimeNs, ctimeNs, size, ino } = await stat(path, { bigint: true })
    return `${path} ${mtimeNs} ${ctimeNs} ${size} ${ino}`
  } catch {
    return `${path} absent`
  }
}
