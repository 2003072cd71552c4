import { Cluster } from '../../wire/generated/envoy-cluster.ts'
import { ClusterLoadAssignment } from '../../wire/generated/envoy-endpoint.ts'
import { Listener } from '../../wire/generated/envoy-listener.ts'
import type { MeshSettings, MeshState, MeshWorkload } from '../mesh-state.ts'
import { typeUrlOf } from './any.ts'
import { constantClusters, serviceClusterOf, tunnelledClusterOf } from './clusters.ts'
import { endpointsOf } from './endpoints.ts'
import { originalDestination, tcpProxy } from './filters.ts'
import { inboundListeners, tunnelledHttpListener } from './inbound.ts'
import { constant } from './names.ts'
import { hostListeners, outboundListeners } from './outbound.ts'
import { type Resource, resource } from './resource.ts'
import { tracingClusters } from './tracing.ts'

export const listenerType = typeUrlOf(Listener)
export const clusterType = typeUrlOf(Cluster)
export const endpointType = typeUrlOf(ClusterLoadAssignment)

/** Name → resource, for each type. */
export type MeshResources = ReadonlyMap<string, ReadonlyMap<string, Resource>>

/**
 * Turns states into resources; what did not change since the last state is not made again.
 * A workload whose addresses are not known yet has no listener: no rule could say which tunnels may end at it.
 */
export function openMeshResources (settings: MeshSettings): (state: MeshState) => MeshResources {
  const clusters = [...constantClusters(settings), ...tracingClusters(settings)]
  const listeners = [originateListener(), tunnelledHttpListener(settings)]
  let last: MeshState | undefined
  let ofHost: readonly Resource[] = []
  let ofServices: { readonly clusters: readonly Resource[], readonly assignments: readonly Resource[] } = { clusters: [], assignments: [] }
  let ofWorkloads = new Map<MeshWorkload, readonly Resource[]>()
  return state => {
    const keep = last?.services === state.services && last.endpoints === state.endpoints && last.revoked === state.revoked &&
      last.policies === state.policies
    const before = keep ? ofWorkloads : new Map<MeshWorkload, readonly Resource[]>()
    ofWorkloads = new Map(state.workloads.filter(({ addresses }) => addresses.length > 0).map(workload => [
      workload,
      before.get(workload) ?? [...outboundListeners(workload, state, settings), ...inboundListeners(workload, state, settings)]
    ]))
    if (!keep) ofHost = hostListeners(state, settings)
    if (last?.services !== state.services || last.endpoints !== state.endpoints) {
      const ports = state.services.flatMap(service => service.ports.map(port => ({ service, port })))
      ofServices = {
        clusters: ports.map(({ service, port }) => serviceClusterOf(service, port, settings)),
        assignments: ports.map(({ service, port }) => endpointsOf(service, port, state.endpoints))
      }
    }
    const tunnelled = state.policies.kind === 'none' ? [] : [...ofWorkloads.keys()].map(tunnelledClusterOf)
    last = state
    return new Map([
      [clusterType, byName([...clusters, ...ofServices.clusters, ...tunnelled])],
      [endpointType, byName(ofServices.assignments)],
      [listenerType, byName([...listeners, ...ofHost, ...[...ofWorkloads.values()].flat()])]
    ])
  }
}

/** Each connection to it becomes a stream of a tunnel to the address it was meant for. */
function originateListener (): Resource {
  return resource(Listener, constant.originate, {
    name: constant.originate,
    statPrefix: 'connect_originate',
    internalListener: {},
    listenerFilters: [originalDestination],
    filterChains: [{
      filters: [tcpProxy({
        statPrefix: 'connect_originate', cluster: constant.tunnels, tunnelingConfig: { hostname: '%DOWNSTREAM_LOCAL_ADDRESS%' }
      })]
    }]
  })
}

function byName (resources: readonly Resource[]): ReadonlyMap<string, Resource> {
  return new Map(resources.map(one => [one.name, one]))
}
