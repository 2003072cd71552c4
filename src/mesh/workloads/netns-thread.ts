// Runs as a thread of its own: entering a network namespace (setns) is a thread's affair, and no other thread notices.
import { closeSync, constants, openSync } from 'node:fs'
import { createRequire } from 'node:module'
import { networkInterfaces } from 'node:os'
import { parentPort } from 'node:worker_threads'

export interface AddressesRequest { readonly id: number, readonly path: string }
export type AddressesAnswer =
  | { readonly id: number, readonly addresses: readonly string[] }
  | { readonly id: number, readonly failure: string }

const cloneNewNet = 0x40000000

if (parentPort !== null) {
  const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi')
  const setns = koffi.load(null).func('int setns(int, int)') as unknown as (fd: number, type: number) => number
  const home = openSync('/proc/thread-self/ns/net', constants.O_RDONLY)
  const enter = (fd: number) => {
    if (setns(fd, cloneNewNet) !== 0) throw new Error(`setns failed with errno ${koffi.errno()}`)
  }
  const port = parentPort
  port.on('message', ({ id, path }: AddressesRequest) => {
    try {
      const fd = openSync(path, constants.O_RDONLY)
      try {
        enter(fd)
        port.postMessage({ id, addresses: routable() } satisfies AddressesAnswer)
      } finally {
        enter(home)
        closeSync(fd)
      }
    } catch (error) {
      port.postMessage({ id, failure: (error as Error).message } satisfies AddressesAnswer)
    }
  })
}

/** Neither loopback nor link-local: what others may be told. */
function routable (): string[] {
  const all = Object.values(networkInterfaces()).flatMap(addresses => addresses ?? [])
  return all.filter(one => !one.internal && (one.scopeid ?? 0) === 0).map(({ address }) => address).toSorted()
}
