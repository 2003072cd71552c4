import { once } from 'node:events'
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { randomUUID } from 'node:crypto'
import { inNamespace } from '../../src/runtime/network-namespace.ts'
import type { WebCertificate } from '../federation/web-ca.ts'

export interface FakeContainer { readonly name: string, readonly id?: string, readonly image?: string, readonly imageId?: string }

export interface FakeKubeletPod {
  readonly uid?: string
  readonly namespace?: string
  readonly name: string
  readonly labels?: Readonly<Record<string, string>>
  readonly owner?: { readonly kind: string, readonly name: string, readonly uid: string }
  readonly containers: readonly FakeContainer[]
  readonly initContainers?: readonly FakeContainer[]
  readonly phase?: string
  readonly hostNetwork?: boolean
}

type Server = ReturnType<typeof createServer> | ReturnType<typeof createHttpServer>

/** A kubelet's list of its node's pods: over HTTPS to who shows the token or a client certificate, or over HTTP to anybody. */
export class FakeKubelet implements AsyncDisposable {
  pods: object[] = []
  /** How often it was asked, and by whom it was refused. */
  asked = 0
  refused = 0
  token = 'kubelet-token'
  /** Answers come after this. */
  gate: Promise<void> = Promise.resolve()
  /** What it answers instead. */
  answer: { readonly status: number, readonly body: string } | undefined
  readonly port: number
  readonly #server: Server

  private constructor (server: Server, port: number) {
    this.#server = server
    this.port = port
  }

  /**
   * @param certificate none: the read-only port
   * @param netns path of a network namespace to listen in; this one unless given
   * @param port there; any unless given
   */
  static async start (certificate?: WebCertificate & { readonly clientCa?: string }, netns?: string, port = 0): Promise<FakeKubelet> {
    const serve = (request: IncomingMessage, response: ServerResponse) => { void kubelet.#serve(request, response) }
    const server = certificate === undefined ? createHttpServer(serve) : createServer({
      cert: certificate.cert, key: certificate.key, requestCert: certificate.clientCa !== undefined, rejectUnauthorized: false,
      ...certificate.clientCa === undefined ? {} : { ca: certificate.clientCa }
    }, serve)
    if (netns === undefined) server.listen(0, '127.0.0.1')
    // Without an address it is bound at once.
    else inNamespace(netns, () => server.listen(port))
    await once(server, 'listening')
    const kubelet = new FakeKubelet(server, (server.address() as AddressInfo).port)
    return kubelet
  }

  async [Symbol.asyncDispose] (): Promise<void> {
    this.#server.closeAllConnections()
    this.#server.close()
    await once(this.#server, 'close')
  }

  async #serve ({ url, headers, socket }: IncomingMessage, response: ServerResponse): Promise<void> {
    this.asked++
    await this.gate
    const secure = (socket as TLSSocket).encrypted
    if (secure && headers.authorization !== `Bearer ${this.token}` && !(socket as TLSSocket).authorized) {
      this.refused++
      response.writeHead(401).end('Unauthorized')
    } else if (url !== '/pods') {
      response.writeHead(404).end()
    } else if (this.answer !== undefined) {
      response.writeHead(this.answer.status).end(this.answer.body)
    } else {
      response.writeHead(200, { 'content-type': 'application/json' })
        .end(JSON.stringify({ kind: 'PodList', apiVersion: 'v1', metadata: {}, items: this.pods.length === 0 ? null : this.pods }))
    }
  }
}

/** A pod in the shape in which a kubelet tells of it. */
export function kubeletPod (pod: FakeKubeletPod): object {
  const status = ({ name, id, image = 'docker.io/library/web:1', imageId = '' }: FakeContainer) => ({
    name, image, imageID: imageId, ready: id !== undefined, restartCount: 0, started: id !== undefined,
    state: id === undefined ? { waiting: { reason: 'ContainerCreating' } } : { running: { startedAt: '2026-01-01T00:00:00Z' } },
    ...id === undefined ? {} : { containerID: `containerd://${id}` }
  })
  const { uid = randomUUID(), namespace = 'shop', name, labels, owner, containers, initContainers = [], phase = 'Running' } = pod
  const { hostNetwork } = pod
  return {
    metadata: {
      name, namespace, uid, creationTimestamp: '2026-01-01T00:00:00Z', annotations: { 'kubernetes.io/config.source': 'api' },
      ...labels === undefined ? {} : { labels },
      ...owner === undefined ? {} : { ownerReferences: [{ apiVersion: 'apps/v1', controller: true, blockOwnerDeletion: true, ...owner }] }
    },
    spec: {
      nodeName: 'worker-1', serviceAccountName: 'web', serviceAccount: 'web',
      ...hostNetwork === undefined ? {} : { hostNetwork },
      containers: containers.map(({ name, image = 'web:1' }) => ({ name, image }))
    },
    status: {
      phase, hostIP: '192.0.2.7', podIP: '10.1.2.3', qosClass: 'BestEffort', containerStatuses: containers.map(status),
      ...initContainers.length === 0 ? {} : { initContainerStatuses: initContainers.map(status) }
    }
  }
}
