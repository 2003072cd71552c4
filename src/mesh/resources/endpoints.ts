import { hostAndPort } from '../../runtime/host-and-port.ts'
import { ClusterLoadAssignment, type LbEndpointInit } from '../../wire/generated/envoy-endpoint.ts'
import { hbonePort, type MeshEndpoint, type MeshPort, type MeshService } from '../mesh-state.ts'
import { socketAddress } from './addresses.ts'
import { structOf } from './any.ts'
import { destinationMetadata, transportMetadata } from './clusters.ts'
import { constant, serviceCluster } from './names.ts'
import { type Resource, resource } from './resource.ts'

/** Where a service's port is answered, in a stable order. */
export function endpointsOf (service: MeshService, port: MeshPort, endpoints: readonly MeshEndpoint[]): Resource {
  const serving = endpoints.filter(one => service.spiffeIds.includes(one.id) && (one.service ?? service.name) === service.name)
  const members = new Map(serving.map(one => [hostAndPort(one.address, one.port ?? port.targetPort), one]))
  const name = serviceCluster(service, port)
  return resource(ClusterLoadAssignment, name, {
    clusterName: name,
    endpoints: members.size === 0 ? [] : [{
      lbEndpoints: [...members].toSorted(([a], [b]) => a < b ? -1 : 1).map(([target, one]) =>
        one.transport === 'hbone' ? tunnelled(target, one) : direct(one, one.port ?? port.targetPort))
    }]
  })
}

/** Through the listener that gives each connection a tunnel; whether the workload's proxy lives is asked of that proxy itself. */
function tunnelled (target: string, { address }: MeshEndpoint): LbEndpointInit {
  return {
    endpoint: {
      address: { envoyInternalAddress: { serverListenerName: constant.originate, endpointId: target } },
      healthCheckConfig: { address: socketAddress(address, hbonePort) }
    },
    metadata: { filterMetadata: { [destinationMetadata]: structOf({ local: target }) } }
  }
}

function direct ({ address }: MeshEndpoint, port: number): LbEndpointInit {
  return {
    endpoint: { address: socketAddress(address, port) },
    metadata: { filterMetadata: { [transportMetadata]: structOf({ transport: 'mtls' }) } }
  }
}
