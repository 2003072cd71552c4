import { createSocket } from 'node:dgram'
import { lookup } from 'node:dns/promises'
import { closeSync } from 'node:fs'
import { getSystemErrorName } from 'node:util'
import { loadCLibrary } from '../../runtime/c-library.ts'
import type { ListenAddress } from '../../runtime/config-schema.ts'

/** A way to one receiver. */
export interface DatagramLink {
  /** @param done told once; `full` is of a receiver that is there and takes nothing at the moment */
  send (datagram: Uint8Array, done: (outcome: Error | 'sent' | 'full') => void): void
  close (): void
}

/** Opens one. @param failed told of what the system says later */
export type OpenLink = (failed: (error: Error) => void) => Promise<DatagramLink>

/** IPv4 first, as others who send such lines: those who receive them often listen there alone. */
export function udpLink ({ host, port }: ListenAddress): OpenLink {
  return async failed => {
    const { address, family } = await lookup(host, { order: 'ipv4first' })
    const socket = createSocket(family === 6 ? 'udp6' : 'udp4')
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject)
      socket.connect(port, address, () => {
        socket.removeAllListeners('error')
        socket.on('error', failed)
        resolve()
      })
    }).catch((error: unknown) => {
      socket.close()
      throw error
    })
    return {
      send: (datagram, done) => socket.send(datagram, error => done(error ?? 'sent')),
      // What the system says of it from now on is of no interest.
      close: () => { socket.removeAllListeners('error').on('error', () => undefined).close() }
    }
  }
}

const [afUnix, sockDgram, cloexecNonblock] = [1, 2, 0o2_004_000]
const [dontWait, noSignal] = [0x40, 0x4000]
const full = new Set(['EAGAIN', 'ENOBUFS'])

/** Node has no Unix sockets for datagrams. @param path at most 107 bytes */
export function unixLink (path: string): OpenLink {
  return async () => {
    const library = loadCLibrary()
    const socket = library.func('int socket(int, int, int)') as (family: number, type: number, protocol: number) => number
    const connect = library.func('int connect(int, const uint8_t *, uint32_t)') as (
      fd: number, address: Uint8Array, bytes: number
    ) => number
    const send = library.func('long send(int, const uint8_t *, size_t, int)') as (
      fd: number, datagram: Uint8Array, bytes: number, flags: number
    ) => number
    const fault = (what: string) => {
      const code = getSystemErrorName(-library.errno())
      return Object.assign(new Error(`${what} ${code} ${path}`), { code })
    }
    const fd = socket(afUnix, sockDgram | cloexecNonblock, 0)
    if (fd < 0) throw fault('socket')
    const address = unixAddress(path)
    if (connect(fd, address, address.length) !== 0) {
      const error = fault('connect')
      closeSync(fd)
      throw error
    }
    let isOpen = true
    return {
      send (datagram, done) {
        // By then the number may be another file's.
        if (!isOpen) return done(new Error(`${path} was given up`))
        if (send(fd, datagram, datagram.length, dontWait | noSignal) >= 0) return done('sent')
        const error = fault('send')
        done(full.has(error.code) ? 'full' : error)
      },
      close () {
        if (isOpen) closeSync(fd)
        isOpen = false
      }
    }
  }
}

/** The system's `sockaddr_un`. */
export function unixAddress (path: string): Uint8Array {
  const family = new Uint8Array(new Uint16Array([afUnix]).buffer)
  return Buffer.concat([family, Buffer.from(path), Buffer.of(0)])
}
