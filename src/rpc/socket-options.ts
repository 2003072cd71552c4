import type { Server, Socket } from 'node:net'
import { loadCLibrary } from '../runtime/c-library.ts'

const solSocket = 1
const soPeerCred = 17
const soPeerPidfd = 77

type GetSockOpt = (fd: number, level: number, name: number, value: Uint8Array, length: Uint32Array) => number
interface Kernel { readonly getsockopt: GetSockOpt, readonly errno: () => number }

let kernel: Kernel | undefined

/** Loaded when the first Unix listener opens. @throws when the platform has no FFI */
export function loadSocketOptions (): Kernel {
  if (kernel !== undefined) return kernel
  const library = loadCLibrary()
  const getsockopt = library.func('int getsockopt(int, int, int, _Out_ uint8_t *, _Inout_ uint32_t *)') as GetSockOpt
  return kernel = { getsockopt, errno: () => library.errno() }
}

/** Who connected, as the kernel recorded it at connect (SO_PEERCRED). */
export function peerCredentials (socket: Socket): { pid: number, uid: number, gid: number } {
  const value = read(socket, soPeerCred, 12)
  if (value === undefined) throw new Error(`SO_PEERCRED failed with errno ${loadSocketOptions().errno()}`)
  const [pid, uid, gid] = new Uint32Array(value.buffer) as unknown as [number, number, number]
  return { pid, uid, gid }
}

/** A descriptor that stands for the process that connected (SO_PEERPIDFD, Linux 6.5); the caller closes it. */
export function peerPidfd (socket: Socket): number | undefined {
  const value = read(socket, soPeerPidfd, 4)
  return value === undefined ? undefined : new Int32Array(value.buffer)[0]
}

function read (socket: Socket, name: number, bytes: number): Uint8Array<ArrayBuffer> | undefined {
  const value = new Uint8Array(bytes)
  const result = loadSocketOptions().getsockopt(descriptorOf(socket), solSocket, name, value, new Uint32Array([bytes]))
  return result === 0 ? value : undefined
}

/** The one private field we rely on: Node has no other way to a socket's descriptor. */
export function descriptorOf (socket: Socket | Server): number {
  const { _handle: handle } = socket as unknown as { _handle?: { fd?: number } | null }
  const fd = handle?.fd
  if (fd === undefined || fd < 0) throw new Error('the connection has ended')
  return fd
}
