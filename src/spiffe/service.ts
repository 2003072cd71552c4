import type { CallerPattern } from './caller-pattern.ts'
import type { IpAddress } from './ip-address.ts'
import type { SpiffeId } from './spiffe-id.ts'

/** What is spoken on a port: `tcp` is opaque bytes, `http` HTTP/1.1. */
export type ServiceProtocol = 'tcp' | 'http' | 'http2' | 'grpc'
export const serviceProtocols: readonly ServiceProtocol[] = ['tcp', 'http', 'http2', 'grpc']

/**
 * `strict`: only callers that show an identity; `permissive`: plain text as well, while a service moves in; `redirect`: plain HTTP is told
 * to come by `https:`, and nothing else is let in.
 */
export type InboundMode = 'strict' | 'permissive' | 'redirect'
export const inboundModes: readonly InboundMode[] = ['strict', 'permissive', 'redirect']

export interface ServicePort {
  /** A DNS label; empty where there is no need to tell ports apart. */
  readonly name: string
  /** What callers name, with the service's address. */
  readonly port: number
  /** Where the workloads listen. */
  readonly targetPort: number
  readonly protocol: ServiceProtocol
  /** On the loopback of each node that calls: for callers that know no address. */
  readonly localPort?: number | undefined
}

/** An address outside what agents report; the workload there must show one of the service's SPIFFE IDs all the same. */
export interface StaticEndpoint {
  readonly address: IpAddress
  /** Instead of the target port. */
  readonly port?: number | undefined
}

/** A service as an operator describes it. */
export interface ServiceDraft {
  /** UUID unless the operator chose it; of a draft empty, to be made by the store. */
  readonly id: string
  /** A DNS name, unique in the trust domain. */
  readonly name: string
  /** Virtual: no host has it; callers' nodes turn it into an endpoint. Unique in the trust domain. */
  readonly address?: IpAddress | undefined
  /** At least one; ports and local ports differ. */
  readonly ports: readonly ServicePort[]
  /** Who serves it: at least one, of this or of a federated trust domain. */
  readonly spiffeIds: readonly SpiffeId[]
  /** Who may call it: nobody when empty, and when absent whoever is authenticated and of the service's own trust domain. */
  readonly callers?: readonly CallerPattern[] | undefined
  readonly staticEndpoints: readonly StaticEndpoint[]
  readonly inbound: InboundMode
}

/** A stored service. What did not change stays the object it was. */
export interface Service extends ServiceDraft {
  /** 0, and one more with each change. */
  readonly revisionNumber: number
  readonly createdAtSeconds: number
}
