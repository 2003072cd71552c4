import { closeSync } from 'node:fs'
import { getSystemErrorName } from 'node:util'
import { loadCLibrary } from '../runtime/c-library.ts'

/** The kernel's mounts of this process's namespace. Calls answer an error's name, such as `EPERM`, or `undefined` when they worked. */
export interface MountCalls {
  /** Shows the directory `source` at `target`, where nobody can write and no file is a device or a program; links are not followed. */
  bindReadOnly (source: string, target: string): string | undefined
  /** Takes away what was mounted last at `target`; links are not followed. */
  unmount (target: string): string | undefined
}

/** System calls of Linux 5.12 and later, of the same number on every architecture. */
const sys = { openTree: 428, moveMount: 429, mountSetAttributes: 442 }
const fromHere = -100
const clone = 1
const closeOnExec = 0o2_000_000
const emptyPath = 0x1000
const fromEmptyPath = 4
/** Read-only, no set-uid, no devices, no programs. */
const attributes = 1n | 2n | 4n | 8n
const detach = 2
const noFollow = 8

type OpenTree = (number: number, from: number, path: string, flags: number) => number
type SetAttributes = (number: number, fd: number, path: string, flags: number, attributes: BigUint64Array, size: number) => number
type MoveMount = (number: number, from: number, fromPath: string, to: number, toPath: string, flags: number) => number
type Unmount = (target: string, flags: number) => number

/**
 * By the C library and not by mount(8), which is in no image without a shell. Not by mount(2) either: that makes a bind mount writable
 * first and read-only then, and what is changed then does not reach the copies that appeared in other namespaces meanwhile, the kubelet's
 * and so the pod's. Here the mount has its attributes before it appears anywhere.
 */
export function openMountCalls (): MountCalls {
  const library = loadCLibrary()
  const openTree = library.func('long syscall(long, int, const char *, unsigned int)') as OpenTree
  const setAttributes = library.func('long syscall(long, int, const char *, unsigned int, const uint64_t *, size_t)') as SetAttributes
  const moveMount = library.func('long syscall(long, int, const char *, int, const char *, unsigned int)') as MoveMount
  const umount2 = library.func('int umount2(const char *, int)') as Unmount
  const nameOf = (result: number) => result >= 0 ? undefined : getSystemErrorName(-library.errno())
  return {
    bindReadOnly (source, target) {
      // Not recursive: what is mounted below the agent's folder is no pod's business.
      const fd = openTree(sys.openTree, fromHere, source, clone | closeOnExec)
      if (fd < 0) return nameOf(fd)
      try {
        const wanted = BigUint64Array.of(attributes, 0n, 0n, 0n)
        return nameOf(setAttributes(sys.mountSetAttributes, fd, '', emptyPath, wanted, wanted.byteLength)) ??
          nameOf(moveMount(sys.moveMount, fd, '', fromHere, target, fromEmptyPath))
      } finally {
        closeSync(fd)
      }
    },
    unmount (target) {
      const failure = nameOf(umount2(target, noFollow))
      // Who works in there, on the node, keeps it until it leaves; nobody else finds it any more.
      return failure === 'EBUSY' ? nameOf(umount2(target, noFollow | detach)) : failure
    }
  }
}
