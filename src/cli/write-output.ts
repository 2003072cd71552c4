import { open, rename, unlink } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { SpiffeError } from '../spiffe/errors.ts'
import { reasonOf } from '../runtime/reason-of.ts'

/** Replaces a file in one step, so that no reader sees half of it. @throws {SpiffeError} `file_unusable` */
export async function writeOutputFile (path: string, content: string | Uint8Array, mode: 0o600 | 0o644): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}.${process.pid}.tmp`)
  try {
    await using file = await open(temporary, 'wx', mode)
    await file.writeFile(content)
    await file.sync()
    await rename(temporary, path)
  } catch (error) {
    await unlink(temporary).catch(() => {})
    throw new SpiffeError('file_unusable', `cannot write ${path}: ${reasonOf(error)}`, { cause: error })
  }
}

/** For keys, tokens and whatever else nobody but the user may read. */
export function writeSecretFile (path: string, content: string | Uint8Array): Promise<void> {
  return writeOutputFile(path, content, 0o600)
}
