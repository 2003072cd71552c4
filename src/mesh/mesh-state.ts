import type { PolicySet } from '../authz/policy/policy-set.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'

/** A workload in a network namespace of its own, with the identity it has now. */
export interface MeshWorkload {
  /** Of this incarnation: a namespace made anew under the same name or address has another. Names its listeners. */
  readonly uid: string
  /** For people and logs, e.g. the namespace's name. */
  readonly name: string
  /** Where Envoy finds the namespace; of this incarnation only, and writable by no workload. */
  readonly netnsPath: string
  /** IP addresses inside the namespace, loopback left out. */
  readonly addresses: readonly string[]
  readonly id: SpiffeId
}

export type Protocol = 'tcp' | 'http' | 'http2' | 'grpc'

export interface MeshPort {
  readonly port: number
  /** Of the workload. */
  readonly targetPort: number
  readonly protocol: Protocol
  /** Where each workload reaches the service on its own loopback, besides the service's address. */
  readonly localPort?: number | undefined
}

/** A principal: a SPIFFE ID, or all whose ID begins with a path, written `spiffe://td/path/*`. */
export type CallerPattern = string

export interface MeshService {
  readonly name: string
  /** Virtual, the same everywhere; without one the service is reached by its local ports and its workloads' addresses. */
  readonly address?: string | undefined
  readonly ports: readonly MeshPort[]
  /** Who may answer for it. */
  readonly spiffeIds: readonly SpiffeId[]
  /** Who may call; `undefined`: everybody of the own trust domain. */
  readonly callers?: readonly CallerPattern[] | undefined
  /** What becomes of connections without mTLS to its workloads. */
  readonly plaintext?: Plaintext | undefined
}

/** `refuse` (strict), `permit` (permissive, for the time of a migration), or an HTTP redirect to `https:`. */
export type Plaintext = 'refuse' | 'permit' | 'redirect'

/** How a workload elsewhere is reached: through its node's Envoy by HBONE, or by mTLS on its own port. */
export type Transport = 'hbone' | 'mtls'

/** A workload that may be called, on this node or another. */
export interface MeshEndpoint {
  readonly id: SpiffeId
  readonly address: string
  readonly transport: Transport
  /** Of one that stands for one service only, in place of the target port. */
  readonly service?: string | undefined
  readonly port?: number | undefined
}

/** What must not be let in although its certificate is valid (see docs/revocation.md). */
export interface Revoked {
  /** SHA-256 of the leaf certificate's DER, lower-case hexadecimal. */
  readonly digests: ReadonlySet<string>
  readonly ids: ReadonlySet<SpiffeId>
}

/** What the trust domain's policies are. */
export type MeshPolicies =
  /** Nobody has said yet whether there are any. */
  | { readonly kind: 'unknown' }
  | { readonly kind: 'none' }
  /** @param set its selectors resolved */
  | { readonly kind: 'set', readonly set: PolicySet }

export interface DecisionReports {
  readonly socketPath: string
  /** Of requests; connections without HTTP are all reported. */
  readonly decisions: 'refused' | 'all'
}

/** Where the proxy sends spans, by OTLP over gRPC. */
export interface Tracing {
  /** Of the collector: a name or an IP address. */
  readonly host: string
  readonly port: number
  /** How many of a hundred requests that belong to no trace yet begin one. */
  readonly samplingPercent: number
}

export interface MeshSettings {
  readonly trustDomain: TrustDomain
  /** Redirected outbound connections arrive here, in each namespace. */
  readonly outboundPort: number
  /** Redirected inbound connections arrive here. */
  readonly inboundPort: number
  /** What becomes of connections to what is no workload or service of the mesh. */
  readonly unknownDestinations: 'passthrough' | 'refuse'
  /** Marks what the proxy sends inside a namespace, so that it is not redirected again. */
  readonly mark: number
  /** At most this long does a connection carry the identities it began with, in seconds. */
  readonly connectionLifeSeconds: number
  /**
   * Envoy's format of the name of a connection's secret, where processes of the host itself are workloads too; `undefined`: they are not.
   * The name tells the connection's two ends and a number that no other connection has.
   */
  readonly connectionName?: string | undefined
  /** Whether the host's own loopback has an address of IPv6, on which the proxy listens for them too. */
  readonly hostIpv6?: boolean
  /** Where the agent answers whether a request may pass: what policies say that the proxy cannot be told. */
  readonly authorizationSocketPath: string
  /** Whether and where the agent takes reports of what the proxy decided by the policies itself; `undefined`: it is told of none. */
  readonly reports?: DecisionReports | undefined
  /** One JSON object per line; `undefined`: none. */
  readonly accessLogPath: string | undefined
  /** Whether Envoy counts who called whom, by SPIFFE ID. What comes without mTLS is always counted. */
  readonly countsTraffic: boolean
  /** `undefined`: no spans are made. */
  readonly tracing?: Tracing | undefined
}

/** Everything a node's Envoy is told, as one value. */
export interface MeshState {
  readonly workloads: readonly MeshWorkload[]
  readonly services: readonly MeshService[]
  readonly endpoints: readonly MeshEndpoint[]
  readonly revoked: Revoked
  readonly policies: MeshPolicies
}

/** The wire of Istio's ambient mesh. */
export const hbonePort = 15_008

export const defaultMeshSettings = {
  outboundPort: 15_001, inboundPort: 15_006, unknownDestinations: 'passthrough', mark: 1_337, connectionLifeSeconds: 600,
  countsTraffic: false
} as const
