import { mkdir, realpath, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { SpiffeError } from '../spiffe/errors.ts'

const writableByAll = 0o002
const sticky = 0o1000

/**
 * Makes the folder if it is not there, and looks whether anybody else could put files of their own in its place: it, and each one above it,
 * must belong to root or to us, and must not be writable by everybody (above it: unless sticky, as /tmp is).
 * @param allowUnsafe as in a volume of Kubernetes, which everybody in the pod may write to
 * @returns its path without symbolic links
 * @throws {SpiffeError} `cert_dir_unsafe`, `file_unusable`
 */
export async function openCertDir (
  path: string, { allowUnsafe, uid = process.geteuid?.() ?? 0 }: { readonly allowUnsafe: boolean, readonly uid?: number }
): Promise<string> {
  const unusable = (cause: unknown) => new SpiffeError('file_unusable', `cert_dir ${path}: ${(cause as Error).message}`, { cause })
  await mkdir(path, { mode: 0o755 }).catch((error: NodeJS.ErrnoException) => { if (error.code !== 'EEXIST') throw unusable(error) })
  const real = await realpath(path).catch((error: unknown) => { throw unusable(error) })
  for (let folder = real; ; folder = dirname(folder)) {
    const facts = await stat(folder).catch((error: unknown) => { throw unusable(error) })
    if (!facts.isDirectory()) throw new SpiffeError('file_unusable', `cert_dir ${folder} is no folder`)
    if (!allowUnsafe && facts.uid !== 0 && facts.uid !== uid) {
      throw unsafe(path, `${folder} belongs to user ${facts.uid}, who could put another folder in its place`)
    }
    if (!allowUnsafe && (facts.mode & writableByAll) !== 0 && (folder === real || (facts.mode & sticky) === 0)) {
      throw unsafe(path, `everybody may write to ${folder}, and so put a certificate and a key of their own there`)
    }
    if (folder === dirname(folder)) return real
  }
}

function unsafe (path: string, why: string): SpiffeError {
  return new SpiffeError('cert_dir_unsafe', `cert_dir ${path} is not safe: ${why}`)
}
