import { Cluster } from '../../wire/generated/envoy-cluster.ts'
import { ClusterLoadAssignment } from '../../wire/generated/envoy-endpoint.ts'
import { Listener } from '../../wire/generated/envoy-listener.ts'
import type { MeshSettings, MeshState, MeshWorkload } from '../mesh-state.ts'
import { accessTo } from '../access.ts'
import { typeUrlOf } from './any.ts'
import { accessBy, type ChainsInUse, filterType, policyResources, routesType } from './authorization.ts'
import { constantClusters, serviceClusterOf, tunnelledClusterOf } from './clusters.ts'
import { endpointsOf } from './endpoints.ts'
import { ConnectionEpochs, type EpochStore } from './connection-epochs.ts'
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
export function openMeshResources (settings: MeshSettings, store: EpochStore): (state: MeshState) => MeshResources {
  const epochs = new ConnectionEpochs(store)
  const clusters = [...constantClusters(settings), ...tracingClusters(settings)]
  const listeners = [originateListener(), tunnelledHttpListener(settings)]
  let last: MeshState | undefined
  let ofHost: readonly Resource[] = []
  let ofServices: { readonly clusters: readonly Resource[], readonly assignments: readonly Resource[] } = { clusters: [], assignments: [] }
  let ofWorkloads = new Map<MeshWorkload, readonly Resource[]>()
  let ofPolicies = new Map<MeshWorkload, PoliciesOf>()
  const ofWorkload = (workload: MeshWorkload, state: MeshState): Resource[] => {
    const access = accessBy(state.policies, workload)
    const epoch = access === undefined ? undefined : epochs.of(workload.uid, access)
    return [...outboundListeners(workload, state, settings), ...inboundListeners(workload, state, settings, epoch)]
  }
  return state => {
    const keep = last?.services === state.services && last.endpoints === state.endpoints && last.revoked === state.revoked &&
      last.policies === state.policies
    const before = keep ? ofWorkloads : new Map<MeshWorkload, readonly Resource[]>()
    ofWorkloads = new Map(state.workloads.filter(({ addresses }) => addresses.length > 0).map(workload => [
      workload, before.get(workload) ?? ofWorkload(workload, state)
    ]))
    epochs.keep(new Set(state.policies.kind === 'none' ? [] : [...ofWorkloads.keys()].map(({ uid }) => uid)))
    const same = last?.policies === state.policies ? ofPolicies : new Map<MeshWorkload, PoliciesOf>()
    const sameServices = last?.services === state.services
    ofPolicies = new Map([...ofWorkloads.keys()].map(workload => {
      const before = same.get(workload)
      return [workload, before !== undefined && sameServices ? before : policiesOf(workload, state, settings, before)]
    }))
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
      ...[filterType, routesType].map((type): [string, ReadonlyMap<string, Resource>] =>
        [type, byName([...ofPolicies.values()].flatMap(({ resources }) => resources).filter(({ typeUrl }) => typeUrl === type))]),
      [listenerType, byName([...listeners, ...ofHost, ...[...ofWorkloads.values()].flat()])]
    ])
  }
}

interface PoliciesOf { readonly inUse: ChainsInUse, readonly resources: readonly Resource[] }

/** @param before by the same policies: what it has is kept until these change, since chains that are about to go still use it */
function policiesOf (workload: MeshWorkload, state: MeshState, settings: MeshSettings, before: PoliciesOf | undefined): PoliciesOf {
  const { ports, plaintext } = accessTo(workload, state.services, settings)
  const inUse = {
    http: before?.inUse.http === true || ports.some(({ http }) => http),
    plaintext: before?.inUse.plaintext === true || plaintext === 'permit'
  }
  if (before?.inUse.http === inUse.http && before.inUse.plaintext === inUse.plaintext) return before
  return { inUse, resources: policyResources(workload, state.policies, inUse) }
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
