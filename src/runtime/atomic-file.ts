import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { open, readdir, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'

/**
 * Replaces a file as a whole: whoever reads it, also after a crash or a power failure, finds the old content or the new one.
 * On return the new content is on the disk. A symbolic link at `path` is replaced, not followed.
 * @param data all of it, or pieces as they come
 * @param options.mode exact permissions, whatever the umask; e.g. 0o600
 */
export async function writeFileAtomically (
  path: string, data: string | Uint8Array | AsyncIterable<string | Uint8Array>, { mode }: { readonly mode: number }
): Promise<void> {
  const temporary = join(dirname(path), `${temporaryPrefix(path)}${randomBytes(9).toString('base64url')}.tmp`)
  try {
    const file = await open(temporary, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, mode & 0o700)
    try {
      await file.writeFile(data)
      await file.chmod(mode)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
  await syncFolder(dirname(path))
}

/** Removes what writes of this file left when the process was killed. Only for the one process that writes it, before it begins to. */
export async function removeTemporaries (path: string): Promise<void> {
  const folder = dirname(path)
  const prefix = temporaryPrefix(path)
  const left = (await readdir(folder)).filter(name => name.startsWith(prefix) && /^[\w-]{12}\.tmp$/.test(name.slice(prefix.length)))
  await Promise.all(left.map(name => rm(join(folder, name), { force: true })))
}

function temporaryPrefix (path: string): string {
  return `.${basename(path)}.`
}

/** A rename is only durable once its folder is. */
export async function syncFolder (path: string): Promise<void> {
  const folder = await open(path, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}
