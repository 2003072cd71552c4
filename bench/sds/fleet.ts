import { secretTypeUrl } from '../../src/sds/encode-secret.ts'
import { decodeMessage } from '../../src/wire/decode-message.ts'
import { encodeMessage } from '../../src/wire/encode-message.ts'
import { DeltaDiscoveryRequest, type DeltaDiscoveryRequestInit, DeltaDiscoveryResponse } from '../../src/wire/generated/envoy-sds.ts'
import { X509SVIDRequest } from '../../src/wire/generated/workload.ts'
import { GrpcStream } from './grpc-stream.ts'

/** When streams had what they waited for, in ms of `performance.now()`. */
export interface Arrival { readonly first: number, readonly last: number }

interface Wait {
  readonly missing: Set<GrpcStream>
  readonly resource: string
  first: number
  readonly done: (arrival: Arrival) => void
}

const timeoutMs = 120_000

/** Many streams of one kind, each on its own connection, and what they are waiting for together. */
export abstract class Fleet implements Disposable {
  protected readonly streams: GrpcStream[] = []
  readonly #failed = Promise.withResolvers<never>()
  readonly #waits = new Set<Wait>()
  #closing = false

  constructor () { this.#failed.promise.catch(() => undefined) }

  protected abstract open (): GrpcStream

  /** Opens all at once. @returns when all have had the resources named */
  async openAll (count: number, resources: readonly string[]): Promise<number> {
    const begin = performance.now()
    for (let i = 0; i < count; i++) this.streams.push(this.open())
    const arrivals = await Promise.all(resources.map(resource => this.expect(resource)))
    return Math.max(...arrivals.map(({ last }) => last)) - begin
  }

  /** From now until each stream has had the resource once. */
  expect (resource: string): Promise<Arrival> {
    const { promise, resolve } = Promise.withResolvers<Arrival>()
    const wait: Wait = { missing: new Set(this.streams), resource, first: Infinity, done: resolve }
    this.#waits.add(wait)
    const { promise: late, reject } = Promise.withResolvers<never>()
    const timer = setTimeout(() => reject(new Error(`${wait.missing.size} streams wait for ${resource} in vain`)), timeoutMs)
    return Promise.race([promise, late, this.#failed.promise]).finally(() => {
      clearTimeout(timer)
      this.#waits.delete(wait)
    })
  }

  [Symbol.dispose] (): void {
    this.#closing = true
    for (const stream of this.streams) stream.close()
  }

  protected arrived (stream: GrpcStream, resource: string): void {
    const now = performance.now()
    for (const wait of this.#waits) {
      if (wait.resource !== resource || !wait.missing.delete(stream)) continue
      wait.first = Math.min(wait.first, now)
      if (wait.missing.size === 0) wait.done({ first: wait.first, last: now })
    }
  }

  protected ended (why: string): void {
    if (!this.#closing) this.#failed.reject(new Error(`a stream ended: ${why}`))
  }
}

/** FetchX509SVID; every message is the resource `state`. */
export class WorkloadFleet extends Fleet {
  readonly #socket: string

  constructor (socket: string) {
    super()
    this.#socket = socket
  }

  protected override open (): GrpcStream {
    const stream = new GrpcStream(this.#socket, '/SpiffeWorkloadAPI/FetchX509SVID',
      (_message, stream) => this.arrived(stream, 'state'), why => this.ended(why))
    stream.send(encodeMessage(X509SVIDRequest, {}))
    stream.end()
    return stream
  }
}

/** DeltaSecrets as Envoy uses it: each answer acknowledged. */
export class SdsFleet extends Fleet {
  readonly #socket: string
  readonly #names: readonly string[]

  constructor (socket: string, names: readonly string[]) {
    super()
    this.#socket = socket
    this.#names = names
  }

  protected override open (): GrpcStream {
    const stream = new GrpcStream(this.#socket, '/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets',
      (message, stream) => this.#receive(message, stream), why => this.ended(why))
    const node = { id: `envoy-${this.streams.length}`, cluster: 'bench' }
    stream.send(encode({ node, typeUrl: secretTypeUrl, resourceNamesSubscribe: this.#names }))
    return stream
  }

  #receive (message: Buffer, stream: GrpcStream): void {
    const { nonce, resources } = decodeMessage(DeltaDiscoveryResponse, message)
    for (const { name } of resources) this.arrived(stream, name)
    stream.send(encode({ typeUrl: secretTypeUrl, responseNonce: nonce }))
  }
}

function encode (request: DeltaDiscoveryRequestInit): Uint8Array { return encodeMessage(DeltaDiscoveryRequest, request) }
