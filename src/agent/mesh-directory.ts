import { hostname } from 'node:os'
import type { MeshDirectory } from '../mesh/mesh-node.ts'
import type { MeshEndpoint, MeshService, Plaintext } from '../mesh/mesh-state.ts'
import type { WorkloadRegistry } from '../mesh/workloads/workload-registry.ts'
import { codeOf } from '../spiffe/errors.ts'
import { parseIpAddress } from '../spiffe/ip-address.ts'
import { type LocalEndpoint, mostLocalEndpoints, type ServiceEndpoint } from '../spiffe/service-endpoint.ts'
import type { Service } from '../spiffe/service.ts'
import type { NodeMesh, NodeServices, NodeServicesState } from './node-services.ts'

/** What the server says of services, once it has, as the proxy's configuration is made of it: whole states, in a stable order. */
export async function * directoryOf (services: NodeServices, signal: AbortSignal): AsyncGenerator<MeshDirectory, void, undefined> {
  const meshServices = rememberOne((state: NodeServicesState['services']) => inOrder(state).map(meshServiceOf))
  const reported = rememberOne((state: NodeServicesState['endpoints']) => inOrder(state).map(meshEndpointOf))
  const fixed = rememberOne((state: NodeServicesState['services']) => inOrder(state).flatMap(staticEndpointsOf))
  const joined = rememberOne(([some, others]: readonly [readonly MeshEndpoint[], readonly MeshEndpoint[]]) => [...some, ...others],
    (a, b) => a[0] === b[0] && a[1] === b[1])
  for await (const state of services.watch(signal)) {
    if (!services.synced) continue
    yield { services: meshServices(state.services), endpoints: joined([reported(state.endpoints), fixed(state.services)]) }
  }
}

/** Tells the server of the workloads that live here, until the signal aborts. */
export async function reportEndpoints (registry: WorkloadRegistry, { localEndpoints }: NodeMesh, signal: AbortSignal): Promise<void> {
  const node = hostname()
  for await (const { workloads } of registry.watch(signal)) {
    const endpoints = workloads.flatMap(({ id, uid, addresses }): LocalEndpoint[] => addresses.flatMap(text => {
      const address = usableAddress(text)
      return address === undefined ? [] : [{ spiffeId: id, address, node, transports: ['hbone', 'mtls'], incarnation: uid }]
    })).slice(0, mostLocalEndpoints)
    if (JSON.stringify(endpoints) !== JSON.stringify(localEndpoints.value)) localEndpoints.set(endpoints)
  }
}

const plaintextOf: Readonly<Record<Service['inbound'], Plaintext>> = { strict: 'refuse', permissive: 'permit', redirect: 'redirect' }

function meshServiceOf ({ name, address, ports, spiffeIds, callers, inbound }: Service): MeshService {
  return { name, address, ports, spiffeIds, callers, plaintext: plaintextOf[inbound] }
}

function meshEndpointOf ({ spiffeId, address, transports }: ServiceEndpoint): MeshEndpoint {
  return { id: spiffeId, address, transport: transports[0] ?? 'mtls' }
}

/** Whoever answers there shows one of the service's identities, whichever: a connection accepts all of them. */
function staticEndpointsOf ({ name, spiffeIds: [id], staticEndpoints }: Service): MeshEndpoint[] {
  return id === undefined ? [] : staticEndpoints.map(({ address, port }) => ({ id, address, port, transport: 'mtls', service: name }))
}

function usableAddress (text: string): LocalEndpoint['address'] | undefined {
  try {
    return parseIpAddress(text, 'a workload\'s address')
  } catch (error) {
    if (codeOf(error) === undefined) throw error
    return undefined
  }
}

function inOrder<T> (byKey: ReadonlyMap<string, T>): T[] {
  return [...byKey].toSorted(([a], [b]) => a < b ? -1 : 1).map(([, value]) => value)
}

/** What did not change stays the object it was, so that nothing is made of it again. */
function rememberOne<A, B> (make: (from: A) => B, same: (a: A, b: A) => boolean = Object.is): (from: A) => B {
  let last: { readonly from: A, readonly made: B } | undefined
  return from => {
    if (last === undefined || !same(last.from, from)) last = { from, made: make(from) }
    return last.made
  }
}
