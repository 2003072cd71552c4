import { createRequire } from 'node:module'

/** The C library that this process already runs on, glibc or musl: for what the kernel tells and Node does not ask. */
export interface CLibrary {
  /** @param prototype as in C, e.g. `int getsockopt(int, int, int, _Out_ uint8_t *, _Inout_ uint32_t *)` */
  func (prototype: string): unknown
  /** Of the call before. */
  errno (): number
}

let library: CLibrary | undefined

/** Loaded at the first call (12 ms): most commands never need it. @throws when the platform has no FFI */
export function loadCLibrary (): CLibrary {
  if (library !== undefined) return library
  if (process.platform !== 'linux') throw new Error(`identifying callers needs Linux, this is ${process.platform}`)
  const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi')
  // Without a name: the symbols that are loaded already.
  const symbols = koffi.load(null)
  return library = { func: prototype => symbols.func(prototype), errno: () => koffi.errno() }
}
