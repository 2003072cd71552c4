import { closeSync } from 'node:fs'
import { SpiffeError } from '../../spiffe/errors.ts'
import { decodeAnswers, encodeLookup, tcpState, type DiagAnswer, type SocketFacts } from './inet-diag.ts'
import { errno, loadKernel, type Kernel } from './kernel.ts'
import { inNamespace } from '../../runtime/network-namespace.ts'
import { addressBytes, sameBytes, type SocketAddress } from './socket-address.ts'

const afNetlink = 16
const sockRaw = 3
const sockCloexec = 0o2_000_000
const netlinkSockDiag = 4
const msgDontWait = 0x40
const bufferBytes = 32 * 1024

/** States in which a process that connected still has its socket: it may have said all it has to say, or have heard all. */
const connectedStates: ReadonlySet<number> = new Set([
  tcpState.established, tcpState.finWait1, tcpState.finWait2, tcpState.closeWait
])

/** Asks the kernel whose a TCP socket is (sock_diag(7)). Each question is answered within the call that asks it, in about 0.1 ms. */
export interface SocketDiagnosis extends Disposable {
  /**
   * The socket of the process that connected, by its own two ends: what it connected from and what it connected to, before any redirection.
   * @param expected the socket that an earlier call found: any other is not the one
   * @returns `undefined`: there is none in this network namespace, or no process has it any more
   * @throws {SpiffeError} `argument_invalid` for an address that is none; `socket_lookup_failed`
   */
  connection (local: SocketAddress, remote: SocketAddress, expected?: SocketFacts): SocketFacts | undefined
}

/**
 * @param netns path of a network namespace, e.g. `/run/netns/blue`; this process's own by default
 * @throws {SpiffeError} `socket_lookup_failed` when the platform has no such thing, or the namespace cannot be entered
 */
export function openSocketDiagnosis ({ netns }: { netns?: string } = {}): SocketDiagnosis {
  let kernel: Kernel
  let fd: number
  try {
    kernel = loadKernel()
    const open = () => kernel.socket(afNetlink, sockRaw | sockCloexec, netlinkSockDiag)
    // The socket stays in the namespace in which it was made.
    fd = netns === undefined ? open() : inNamespace(netns, open)
  } catch (error) {
    throw new SpiffeError('socket_lookup_failed', `cannot ask for sockets: ${(error as Error).message}`, { cause: error })
  }
  if (fd < 0) throw new SpiffeError('socket_lookup_failed', `cannot open a netlink socket: errno ${kernel.errno()}`)
  return new NetlinkDiagnosis(kernel, fd)
}

class NetlinkDiagnosis implements SocketDiagnosis {
  readonly #kernel: Kernel
  readonly #buffer = new Uint8Array(bufferBytes)
  #fd: number | undefined
  #sequence = 0

  constructor (kernel: Kernel, fd: number) {
    this.#kernel = kernel
    this.#fd = fd
  }

  connection (local: SocketAddress, remote: SocketAddress, expected?: SocketFacts): SocketFacts | undefined {
    const [answer] = this.#ask(sequence => encodeLookup(sequence, local, remote, expected?.cookie))
    if (answer === undefined) throw new SpiffeError('socket_lookup_failed', 'the kernel did not answer')
    if (answer.kind === 'error') {
      if (answer.errno === errno.ENOENT || answer.errno === errno.ESTALE) return undefined
      throw new SpiffeError('socket_lookup_failed', `the kernel refused with errno ${answer.errno}`)
    }
    const { socket } = answer
    // Where nothing is connected the kernel names who listens there, and of a socket that nobody has any more it says user 0.
    const isConnection = connectedStates.has(socket.state) && socket.inode !== 0 && hasEnds(socket, local, remote)
    const isExpected = expected === undefined || expected.inode === socket.inode
    return isConnection && isExpected ? socket : undefined
  }

  /** All that the kernel has answered when the call returns: it does not answer later. */
  #ask (encode: (sequence: number) => Uint8Array): DiagAnswer[] {
    if (this.#fd === undefined) throw new TypeError('the diagnosis was closed')
    this.#sequence = (this.#sequence + 1) >>> 0
    const message = encode(this.#sequence)
    if (this.#kernel.send(this.#fd, message, message.length, 0) !== message.length) {
      throw new SpiffeError('socket_lookup_failed', `cannot ask the kernel: errno ${this.#kernel.errno()}`)
    }
    const answers: DiagAnswer[] = []
    for (;;) {
      const length = this.#kernel.recv(this.#fd, this.#buffer, bufferBytes, msgDontWait)
      if (length < 0 && this.#kernel.errno() === errno.EAGAIN) return answers
      if (length < 0) throw new SpiffeError('socket_lookup_failed', `cannot read the kernel's answer: errno ${this.#kernel.errno()}`)
      answers.push(...decodeAnswers(this.#buffer.subarray(0, length), this.#sequence))
    }
  }

  [Symbol.dispose] (): void {
    if (this.#fd === undefined) return
    closeSync(this.#fd)
    this.#fd = undefined
  }
}

function hasEnds (socket: SocketFacts, local: SocketAddress, remote: SocketAddress): boolean {
  return socket.localPort === local.port && socket.remotePort === remote.port &&
    sameBytes(socket.localAddress, addressBytes(local.address)) && sameBytes(socket.remoteAddress, addressBytes(remote.address))
}
