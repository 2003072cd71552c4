import { closeSync, fstatSync, openSync, statSync } from 'node:fs'
import { lstat, realpath } from 'node:fs/promises'
import { dirname } from 'node:path'
import { loadCLibrary } from '../runtime/c-library.ts'
import { SpiffeError } from '../spiffe/errors.ts'

/** ioctl_ns(2): which kind of namespace a descriptor stands for. */
const getKind = 0xb703
const kindNet = 0x4000_0000

/** A network namespace that stays the same however its path changes. */
export interface OpenNamespace extends Disposable {
  readonly fd: number
  /** As the kernel numbers it. */
  readonly inode: number
}

/**
 * @param path e.g. `/run/netns/blue` or `/proc/4711/ns/net`
 * @throws {SpiffeError} `argument_invalid` for what is no network namespace, or this process's own: there all of the host would be
 * redirected; `file_unusable`
 */
export function openNamespace (path: string): OpenNamespace {
  let fd: number
  try {
    fd = openSync(path, 'r')
  } catch (error) {
    throw new SpiffeError('file_unusable', `cannot open the namespace ${path}: ${(error as Error).message}`, { cause: error })
  }
  const { ino: inode } = fstatSync(fd)
  const isNetwork = kindOf(fd) === kindNet
  if (isNetwork && inode !== statSync('/proc/self/ns/net').ino) return { fd, inode, [Symbol.dispose]: () => closeSync(fd) }
  closeSync(fd)
  throw new SpiffeError('argument_invalid', isNetwork
    ? `${path} is the namespace of this host: everything on it would be redirected`
    : `${path} is no network namespace`)
}

/**
 * Checks that nobody but root, and this process's user, can make a path lead to another namespace. For paths that are opened again later:
 * by a proxy that listens in the namespace. Paths below `/proc` are refused: a process may leave its namespace, and numbers come back;
 * links to there cannot be followed.
 * @throws {SpiffeError} `namespace_unsafe`, naming what others can change; `file_unusable`
 */
export async function checkNamespacePath (path: string): Promise<void> {
  if (path.startsWith('/proc/')) throw new SpiffeError('namespace_unsafe', `${path} is what a process can change`)
  let real: string
  try {
    real = await realpath(path)
  } catch (error) {
    throw new SpiffeError('file_unusable', `cannot follow ${path}: ${(error as Error).message}`, { cause: error })
  }
  // The way that was written has links, which are as safe as the folders they are in.
  for (const way of new Set([path, real])) {
    for (let at = way; ; at = dirname(at)) {
      const { uid, mode } = await lstat(at)
      const isLink = (mode & 0o170000) === 0o120000
      if (uid !== 0 && uid !== process.getuid?.()) throw new SpiffeError('namespace_unsafe', `user ${uid} owns ${at}`)
      if (!isLink && (mode & 0o022) !== 0) throw new SpiffeError('namespace_unsafe', `${at} can be changed by others than its owner`)
      if (at === dirname(at)) break
    }
  }
  openNamespace(path)[Symbol.dispose]()
}

/** -1 for what is no namespace. */
function kindOf (fd: number): number {
  const ioctl = loadCLibrary().func('int ioctl(int, unsigned long)') as (fd: number, request: number) => number
  return ioctl(fd, getKind)
}
