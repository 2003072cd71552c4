import { closeSync, fstatSync, openSync, statSync } from 'node:fs'
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

/** -1 for what is no namespace. */
function kindOf (fd: number): number {
  const ioctl = loadCLibrary().func('int ioctl(int, unsigned long)') as (fd: number, request: number) => number
  return ioctl(fd, getKind)
}
