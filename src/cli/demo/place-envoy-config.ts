import { parse } from 'yaml'

export interface SocketAddress { readonly host: string, readonly port: number }

export type SocketAddresses = Readonly<Record<string, SocketAddress>>

export interface Placement {
  /** Unix sockets; the agent's is the one that clusters lead to. */
  readonly admin: string
  readonly agent: string
  /** By the listener's name. */
  readonly listeners: SocketAddresses
  /** The one endpoint of each, by the cluster's name. */
  readonly clusters: SocketAddresses
}

type Address = Record<string, unknown>
interface Addressed { address: Address }
interface Cluster {
  readonly name: string
  readonly load_assignment: { readonly endpoints: readonly { readonly lb_endpoints: readonly { readonly endpoint: Addressed }[] }[] }
}
interface Bootstrap {
  readonly admin: Addressed
  readonly static_resources: {
    readonly listeners: readonly (Addressed & { readonly name: string })[]
    readonly clusters: readonly Cluster[]
  }
}

/**
 * A file of `envoy-configs/` moved to other addresses; everything else stays as it is written.
 * @returns JSON, which Envoy reads as it reads YAML. Throws when file and placement do not name the same listeners and clusters.
 */
export function placeEnvoyConfig (yaml: string, { admin, agent, listeners, clusters }: Placement): string {
  const config = parse(yaml, { merge: false }) as Bootstrap
  config.admin.address = pipe(admin)
  for (const listener of config.static_resources.listeners) listener.address = socket(listeners, listener.name, 'listener')
  for (const cluster of config.static_resources.clusters) {
    const [endpoint, ...more] = cluster.load_assignment.endpoints.flatMap(locality => locality.lb_endpoints.map(each => each.endpoint))
    if (endpoint === undefined || more.length > 0) throw new Error(`cluster ${cluster.name} must have one endpoint`)
    endpoint.address = 'pipe' in endpoint.address ? pipe(agent) : socket(clusters, cluster.name, 'cluster')
  }
  return JSON.stringify(config)
}

function socket (addresses: SocketAddresses, name: string, what: string): Address {
  const address = addresses[name]
  if (address === undefined) throw new Error(`there is no place for ${what} ${name}`)
  return { socket_address: { address: address.host, port_value: address.port } }
}

function pipe (path: string): Address {
  return { pipe: { path } }
}
