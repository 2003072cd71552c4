import { SpiffeError } from '../../../spiffe/errors.ts'

/** Who a process acts as, by its main thread. */
export interface ProcessCredentials {
  readonly effectiveUid: number
  readonly effectiveGid: number
  /** Supplementary groups, as the kernel lists them. */
  readonly groups: readonly number[]
}

/**
 * Reads `/proc/<pid>/status`. The kernel escapes line feeds in the process's name, so each line means what it says.
 * @throws {SpiffeError} `workload_attestation_failed` unless `Uid`, `Gid` and `Groups` are each there once and well formed
 */
export function parseProcessStatus (text: string): ProcessCredentials {
  return {
    effectiveUid: effectiveOf(valueOf(text, 'Uid'), 'Uid'),
    effectiveGid: effectiveOf(valueOf(text, 'Gid'), 'Gid'),
    groups: parseIds(valueOf(text, 'Groups'), 'Groups')
  }
}

function valueOf (text: string, key: string): string {
  const lines = text.split('\n').filter(line => line.startsWith(`${key}:`))
  if (lines.length !== 1) throw malformed(`${lines.length} lines "${key}"`)
  return (lines[0] as string).slice(key.length + 1)
}

/** Real, effective, saved set and file system ID. */
function effectiveOf (value: string, key: string): number {
  const ids = parseIds(value, key)
  if (ids.length !== 4) throw malformed(`${ids.length} numbers in "${key}"`)
  return ids[1] as number
}

function parseIds (value: string, key: string): number[] {
  return value.split(/[\t ]+/).filter(word => word !== '').map(word => {
    const id = /^\d{1,10}$/.test(word) ? Number(word) : Infinity
    if (id > 0xffff_ffff) throw malformed(`${JSON.stringify(word.slice(0, 32))} in "${key}"`)
    return id
  })
}

function malformed (what: string): SpiffeError {
  return new SpiffeError('workload_attestation_failed', `process status has ${what}`)
}
