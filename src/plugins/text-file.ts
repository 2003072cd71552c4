import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { SpiffeError } from '../spiffe/errors.ts'

/** Bytes of one file. */
const maxSize = 1024 * 1024

/** Reads what a configuration names: keys, certificates, policies of other systems. @throws {SpiffeError} `file_unusable` */
export async function readTextFile (path: string): Promise<string> {
  try {
    // Not blocking, so that a FIFO in its place is refused and not waited for.
    await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
    const stats = await file.stat()
    if (!stats.isFile()) throw new SpiffeError('file_unusable', `${path} is no regular file`)
    if (stats.size > maxSize) throw new SpiffeError('file_unusable', `${path} is longer than ${maxSize} bytes`)
    return await file.readFile('utf8')
  } catch (error) {
    if (error instanceof SpiffeError) throw error
    throw new SpiffeError('file_unusable', `cannot read ${path}: ${(error as Error).message}`, { cause: error })
  }
}
