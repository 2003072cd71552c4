import { closeSync, openSync } from 'node:fs'
import { loadCLibrary } from './c-library.ts'

const cloneNewNet = 0x4000_0000

type SetNs = (fd: number, type: number) => number
let setns: SetNs | undefined

/**
 * Does something in another network namespace. Synchronous, so that this thread is back in its own before anything else runs.
 * @param path of the namespace, e.g. `/run/netns/blue`; needs CAP_SYS_ADMIN
 */
export function inNamespace<T> (path: string, act: () => T): T {
  const library = loadCLibrary()
  const enter = setns ??= library.func('int setns(int, int)') as SetNs
  const own = openSync('/proc/thread-self/ns/net', 'r')
  try {
    const other = openSync(path, 'r')
    try {
      // EINVAL: it is no network namespace.
      if (enter(other, cloneNewNet) !== 0) throw new Error(`cannot enter ${path}: errno ${library.errno()}`)
      try {
        return act()
      } finally {
        // Whatever this process did from here on would happen in the wrong network.
        if (enter(own, cloneNewNet) !== 0) process.abort()
      }
    } finally {
      closeSync(other)
    }
  } finally {
    closeSync(own)
  }
}
