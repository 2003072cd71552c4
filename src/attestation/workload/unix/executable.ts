import { constants, type BigIntStats } from 'node:fs'
import { open, readlink, stat, type FileHandle } from 'node:fs/promises'
import { SpiffeError } from '../../../spiffe/errors.ts'

/** The file a process runs. */
export interface OpenExecutable {
  readonly file: FileHandle
  /** Bytes. */
  readonly size: number
  /**
   * Where it is, by the kernel; `undefined` when the file at that path, as we see it, is another one or gone. A process may show any
   * path from inside a mount namespace of its own, which every user can make: such a path says nothing about this machine's files.
   */
  readonly path: string | undefined
}

/**
 * Opens what the process runs now. If it executes something else meanwhile, that is noticed here or by `PinnedProcess.check` afterwards.
 * @throws {SpiffeError} `caller_gone`; `workload_attestation_failed` when we may not look, or the path is not UTF-8
 */
export async function openExecutable (pid: number): Promise<OpenExecutable> {
  const link = `/proc/${pid}/exe`
  let file: FileHandle | undefined
  try {
    const before = await stat(link, { bigint: true })
    file = await open(link, constants.O_RDONLY)
    const opened = await file.stat({ bigint: true })
    if (!sameFile(before, opened)) throw new SpiffeError('caller_gone', `process ${pid} runs another program now`)
    const path = decodePath(await readlink(link, { encoding: 'buffer' }))
    return { file, size: Number(opened.size), path: await leadsTo(opened, path) ? path : undefined }
  } catch (error) {
    await file?.close()
    if (error instanceof SpiffeError) throw error
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ESRCH') throw new SpiffeError('caller_gone', `process ${pid} ended`, { cause: error })
    throw new SpiffeError('workload_attestation_failed', code === 'EACCES' || code === 'EPERM'
      ? `may not read ${link}: run the agent as root, or with discover_workload_path switched off`
      : `cannot read ${link}`, { cause: error })
  }
}

async function leadsTo (opened: BigIntStats, path: string): Promise<boolean> {
  try {
    return sameFile(opened, await stat(path, { bigint: true }))
  } catch {
    return false
  }
}

function sameFile (a: BigIntStats, b: BigIntStats): boolean {
  return a.dev === b.dev && a.ino === b.ino
}

/** Selectors are text. Replacement characters would let two different paths look the same. */
function decodePath (bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch (error) {
    throw new SpiffeError('workload_attestation_failed', 'the executable\'s path is not UTF-8', { cause: error })
  }
}
