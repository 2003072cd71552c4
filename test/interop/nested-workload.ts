import { connect, createServer, type SecureContextOptions, type Server } from 'node:tls'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { setTimeout } from 'node:timers/promises'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { workloadService } from '../../src/wire/generated/workload.ts'
import { splitCertificates } from '../../src/x509/certificate.ts'
import { encodePem } from '../../src/x509/pem.ts'
import { eventually } from '../fakes/eventually.ts'
import type { RunningAgent } from '../fakes/processes.ts'

const metadata = { 'workload.spiffe.io': 'true' }
const handshakeTimeoutMs = 60_000
const retryMs = 50

/** What a workload was last given; all DER. */
export interface Given {
  readonly id: string
  /** Leaf first, without the root. */
  readonly chain: readonly Uint8Array[]
  readonly roots: readonly Uint8Array[]
  /** Of trust domains that its own federates with, by their IDs; whoever shows a chain below one of these is believed too. */
  readonly federated: Readonly<Record<string, readonly Uint8Array[]>>
}

/**
 * A workload that uses the newest SVID and bundle of its agent's stream, both as a client and as a server of mutual TLS. OpenSSL judges
 * the peers' chains by the bundle, and no code of ours.
 */
export class NestedWorkload implements AsyncDisposable {
  readonly #stop = new AbortController()
  readonly #server: Server
  readonly #following: Promise<void>
  readonly #again: boolean
  #given: Given | undefined
  #context: SecureContextOptions = {}
  /** Why the agent's stream ended, if it did before its time. */
  broken: unknown

  private constructor (socket: string, again: boolean) {
    this.#again = again
    this.#server = createServer({ requestCert: true, rejectUnauthorized: true }, socket => {
      socket.on('error', () => {}).end(spiffeIdOf(socket.getPeerX509Certificate()?.subjectAltName))
    })
    this.#server.listen(0, '127.0.0.1')
    this.#following = this.#follow(socket).catch((error: unknown) => {
      if (!this.#stop.signal.aborted) this.broken = error
    })
  }

  /**
   * Returns once the agent has given an SVID.
   * @param again asks anew, with what it has, when its agent goes away: another one may serve there
   */
  static async start ({ socket }: Pick<RunningAgent, 'socket'>, { again = false } = {}): Promise<NestedWorkload> {
    const workload = new NestedWorkload(socket, again)
    try {
      await eventually('a workload to have its SVID', () => {
        if (workload.broken !== undefined) throw workload.broken
        return workload.#given !== undefined
      }, 60_000)
    } catch (error) {
      await workload[Symbol.asyncDispose]()
      throw error
    }
    return workload
  }

  get given (): Given {
    if (this.#given === undefined) throw new Error('nothing was given yet')
    return this.#given
  }

  /** One handshake with new keys, and a word back which shows that the other side has accepted. @throws why it failed */
  async call (other: NestedWorkload): Promise<void> {
    const { port } = other.#server.address() as AddressInfo
    const socket = connect({ ...this.#context, host: '127.0.0.1', port, timeout: handshakeTimeoutMs, checkServerIdentity: () => undefined })
    try {
      socket.once('timeout', () => socket.destroy(new Error(`nothing was said for ${handshakeTimeoutMs} ms`)))
      await once(socket, 'secureConnect')
      const server = spiffeIdOf(socket.getPeerX509Certificate()?.subjectAltName)
      const heard = Buffer.concat(await socket.toArray() as Buffer[]).toString()
      if (server !== other.given.id || heard !== this.given.id) throw new Error(`met ${server}, which met ${heard || 'nobody'}`)
    } finally {
      socket.on('error', () => {}).destroy()
    }
  }

  async [Symbol.asyncDispose] (): Promise<void> {
    this.#stop.abort()
    await this.#following
    this.#server.close()
    await once(this.#server, 'close')
  }

  async #follow (path: string): Promise<void> {
    for (;;) {
      try {
        await this.#followOnce(path)
      } catch (error) {
        if (!this.#again || this.#stop.signal.aborted) throw error
      }
      await setTimeout(retryMs)
    }
  }

  async #followOnce (path: string): Promise<void> {
    const { signal } = this.#stop
    await using channel = openUnixChannel(path)
    for await (const { svids: [svid], federatedBundles } of channel.client(workloadService).fetchX509SVID({}, { signal, metadata })) {
      if (svid === undefined) throw new Error('an answer without an SVID')
      const [chain, roots] = [splitCertificates(svid.x509Svid), splitCertificates(svid.bundle)]
      const pem = (certificates: readonly Uint8Array[]) => certificates.map(der => encodePem('CERTIFICATE', der)).join('')
      const federated = Object.fromEntries(Object.entries(federatedBundles).map(([id, der]) => [id, splitCertificates(der)]))
      const ca = pem([...roots, ...Object.values(federated).flat()])
      this.#context = { cert: pem(chain), key: encodePem('PRIVATE KEY', svid.x509SvidKey), ca }
      this.#server.setSecureContext(this.#context)
      this.#given = { id: svid.spiffeId, chain, roots, federated }
    }
    throw new Error('the agent ended the stream')
  }
}

function spiffeIdOf (names = ''): string { return names.replace(/^URI:/, '') }
