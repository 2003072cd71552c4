import { endianness } from 'node:os'
import { addressBytes, isMapped, type SocketAddress } from './socket-address.ts'

/** Messages of the kernel's socket diagnosis, sock_diag(7): requests to encode and answers to decode. */

const host = endianness() === 'LE'
const headerBytes = 16
const requestBytes = 56
const answerBytes = 72
const sockDiagByFamily = 20
const typeError = 2
const flagRequest = 0x1
const afInet = 2
const afInet6 = 10
const tcp = 6
const attributeCgroupId = 21
const noCookie = 0xffff_ffff

/** States of TCP, `include/net/tcp_states.h`. */
export const tcpState = { established: 1, finWait1: 4, finWait2: 5, closeWait: 8 } as const

/** What the kernel says of one socket. */
export interface SocketFacts {
  /** One of `tcpState`, or a state in which no process has the socket. */
  readonly state: number
  /** Who made the socket (its file system user ID then); as the reader's user namespace sees it. */
  readonly uid: number
  /** 0: no process has it any more, or not yet. */
  readonly inode: number
  /** Of the version-2 group that made it: the inode of the group's directory. `undefined` on a kernel without such groups. */
  readonly cgroupId: bigint | undefined
  /** Never given to another socket while the machine runs. */
  readonly cookie: readonly [number, number]
  /** The local end: 4 or 16 bytes. */
  readonly localAddress: Uint8Array
  readonly localPort: number
  readonly remoteAddress: Uint8Array
  readonly remotePort: number
}

/** What one netlink message says. */
export type DiagAnswer =
  | { readonly kind: 'socket', readonly socket: SocketFacts }
  | { readonly kind: 'error', readonly errno: number }

/**
 * Asks for the one socket with these ends. The kernel falls back to a socket that listens on the local end: compare the answer.
 * @param cookie of the socket that is expected, if one is: the kernel then refuses any other
 */
export function encodeLookup (sequence: number, local: SocketAddress, remote: SocketAddress, cookie?: SocketFacts['cookie']): Uint8Array {
  const localBytes = addressBytes(local.address)
  const remoteBytes = addressBytes(remote.address)
  const family = localBytes.length === 4 && remoteBytes.length === 4 ? afInet : afInet6
  const { bytes, view } = request(sequence, family)
  view.setUint16(24, local.port)
  view.setUint16(26, remote.port)
  bytes.set(localBytes, 28)
  bytes.set(remoteBytes, 44)
  view.setUint32(64, cookie?.[0] ?? noCookie, host)
  view.setUint32(68, cookie?.[1] ?? noCookie, host)
  return bytes
}

/**
 * The messages of one datagram that answer the request with this number; others are passed over.
 * @throws {RangeError} for what is cut short
 */
export function decodeAnswers (datagram: Uint8Array, sequence: number): DiagAnswer[] {
  const view = new DataView(datagram.buffer, datagram.byteOffset, datagram.byteLength)
  const answers: DiagAnswer[] = []
  for (let at = 0; at + headerBytes <= datagram.length;) {
    const length = view.getUint32(at, host)
    if (length < headerBytes || at + length > datagram.length) throw new RangeError(`${length} bytes announced at ${at}`)
    if (view.getUint32(at + 8, host) === sequence) answers.push(decodeAnswer(datagram.subarray(at, at + length)))
    at += aligned(length)
  }
  return answers
}

function decodeAnswer (message: Uint8Array): DiagAnswer {
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength)
  switch (view.getUint16(4, host)) {
    case typeError: return { kind: 'error', errno: -view.getInt32(headerBytes, host) }
    case sockDiagByFamily: return { kind: 'socket', socket: decodeSocket(message.subarray(headerBytes)) }
    default: throw new RangeError(`a message of type ${view.getUint16(4, host)}`)
  }
}

function decodeSocket (message: Uint8Array): SocketFacts {
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength)
  const addressLength = view.getUint8(0) === afInet ? 4 : 16
  const cgroup = attributeOf(view, attributeCgroupId)
  return {
    state: view.getUint8(1),
    uid: view.getUint32(64, host),
    inode: view.getUint32(68, host),
    cgroupId: cgroup === undefined ? undefined : view.getBigUint64(cgroup, host),
    cookie: [view.getUint32(44, host), view.getUint32(48, host)],
    localAddress: plainAddress(message.slice(8, 8 + addressLength)),
    localPort: view.getUint16(4),
    remoteAddress: plainAddress(message.slice(24, 24 + addressLength)),
    remotePort: view.getUint16(6)
  }
}

/** Where the attribute's value begins. */
function attributeOf (view: DataView, type: number): number | undefined {
  for (let at = answerBytes; at + 4 <= view.byteLength;) {
    const length = view.getUint16(at, host)
    if (length < 4) return undefined
    if (view.getUint16(at + 2, host) === type) return at + 4
    at += aligned(length)
  }
  return undefined
}

/** A socket of IPv6 that carries IPv4 shows addresses inside `::ffff:0:0/96`. */
function plainAddress (bytes: Uint8Array): Uint8Array {
  return isMapped(bytes) ? bytes.slice(12) : bytes
}

/** For a socket in any state. */
function request (sequence: number, family: number): { bytes: Uint8Array, view: DataView } {
  const bytes = new Uint8Array(headerBytes + requestBytes)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, bytes.length, host)
  view.setUint16(4, sockDiagByFamily, host)
  view.setUint16(6, flagRequest, host)
  view.setUint32(8, sequence, host)
  view.setUint8(16, family)
  view.setUint8(17, tcp)
  view.setUint32(20, 0xffff_ffff, host)
  return { bytes, view }
}

function aligned (length: number): number { return (length + 3) & ~3 }
