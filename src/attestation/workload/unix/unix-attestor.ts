import { readFile } from 'node:fs/promises'
import { systemClock, type Clock } from '../../../runtime/clock.ts'
import { silentLogger, type Logger } from '../../../runtime/logger.ts'
import { SpiffeError } from '../../../spiffe/errors.ts'
import type { Selector } from '../../../spiffe/selector.ts'
import type { PinnedProcess } from '../pinned-process.ts'
import type { WorkloadAttestor } from '../workload-attestor.ts'
import { openExecutable } from './executable.ts'
import { FileDigests } from './file-digest.ts'
import { NameFile } from './name-file.ts'
import { parseProcessStatus, type ProcessCredentials } from './process-status.ts'

export interface UnixAttestorConfig {
  /** Adds `path` and `sha256`; needs the right to inspect processes of other users. */
  readonly discoverWorkloadPath: boolean
  /** Bytes above which attestation fails; 0: no limit; negative: no `sha256`. */
  readonly workloadSizeLimit: number
}

export interface UnixAttestorDeps {
  readonly clock?: Clock
  readonly log?: Logger
  readonly passwdFile?: string
  readonly groupFile?: string
}

/** Directories put people into a thousand at the most. The kernel takes 65536, with which a container's root could keep an agent busy. */
const mostGroups = 4_096

/** SPIRE's `unix` attestor: `uid`, `user`, `gid`, `group`, `supplementary_gid`, `supplementary_group`, `path`, `sha256`. */
export function createUnixAttestor (config: UnixAttestorConfig, deps: UnixAttestorDeps = {}): WorkloadAttestor {
  const { clock = systemClock, log = silentLogger, passwdFile = '/etc/passwd', groupFile = '/etc/group' } = deps
  const users = new NameFile(passwdFile)
  const groups = new NameFile(groupFile)
  const digests = new FileDigests(clock)
  return {
    name: 'unix',
    async attest (process, signal) {
      const values = await credentialValues(await readCredentials(process), users, groups)
      if (config.discoverWorkloadPath) values.push(...await executableValues(process.pid, signal))
      return values.map((value): Selector => ({ type: 'unix', value }))
    }
  }

  async function executableValues (pid: number, signal: AbortSignal): Promise<string[]> {
    const { file, size, path } = await openExecutable(pid)
    if (path === undefined) log.debug({ pid }, 'the executable is not the file at its path on this machine: no selector unix:path')
    const limit = config.workloadSizeLimit
    const tooLong = limit > 0 && size > limit
    if (limit >= 0 && !tooLong) return [...named('path', path), `sha256:${await digests.sha256(file, signal)}`]
    await file.close()
    if (tooLong) throw new SpiffeError('workload_attestation_failed', `executable of ${size} bytes exceeds workload_size_limit ${limit}`)
    return named('path', path)
  }
}

/**
 * Effective IDs, as SPIRE takes them, from `/proc`; but only if the process still acts as who it was when it connected:
 * a process that changes its user must connect again.
 */
async function readCredentials ({ pid, uid, gid }: PinnedProcess): Promise<ProcessCredentials> {
  let status: string
  try {
    status = await readFile(`/proc/${pid}/status`, 'latin1')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ESRCH') throw new SpiffeError('caller_gone', `process ${pid} ended`, { cause: error })
    throw new SpiffeError('workload_attestation_failed', `cannot read /proc/${pid}/status`, { cause: error })
  }
  const credentials = parseProcessStatus(status)
  const { effectiveUid, effectiveGid, groups } = credentials
  if (effectiveUid !== uid || effectiveGid !== gid) {
    throw new SpiffeError('caller_gone', `process ${pid} connected as ${uid}:${gid} and is ${effectiveUid}:${effectiveGid} now`)
  }
  if (groups.length > mostGroups) {
    throw new SpiffeError('workload_attestation_failed', `process ${pid} is in ${groups.length} groups, more than ${mostGroups}`)
  }
  return credentials
}

async function credentialValues (credentials: ProcessCredentials, users: NameFile, groups: NameFile): Promise<string[]> {
  const { effectiveUid: uid, effectiveGid: gid } = credentials
  const [userNames, groupNames] = await Promise.all([users.names(), groups.names()])
  const values = [`uid:${uid}`, ...named('user', userNames.get(uid)), `gid:${gid}`, ...named('group', groupNames.get(gid))]
  for (const id of credentials.groups) {
    values.push(`supplementary_gid:${id}`, ...named('supplementary_group', groupNames.get(id)))
  }
  return values
}

function named (kind: string, name: string | undefined): string[] {
  return name === undefined ? [] : [`${kind}:${name}`]
}
