import { closeSync, existsSync, fsyncSync, mkdirSync, openSync } from 'node:fs'
import { dirname } from 'node:path'
import { SpiffeError } from '../../spiffe/errors.ts'

/**
 * Makes an empty file (0600), and missing folders above it (0700), unless it is there already. A file that is there is not
 * even opened: closing it would give up the locks this process holds on it (POSIX `fcntl`).
 * @throws {SpiffeError} `file_unusable`
 */
export function createPrivateFile (file: string): void {
  try {
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
    if (existsSync(file)) return
    closeSync(openSync(file, 'wx', 0o600))
    syncFolder(dirname(file))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST' && existsSync(file)) return
    throw new SpiffeError('file_unusable', `cannot create ${file}: ${(error as Error).message}`, { cause: error })
  }
}

function syncFolder (folder: string): void {
  const fd = openSync(folder, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}
