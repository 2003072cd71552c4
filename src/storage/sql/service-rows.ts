import type { CallerPattern } from '../../spiffe/caller-pattern.ts'
import type { IpAddress } from '../../spiffe/ip-address.ts'
import type { EndpointTransport, ServiceEndpoint } from '../../spiffe/service-endpoint.ts'
import type { InboundMode, Service, ServicePort, StaticEndpoint } from '../../spiffe/service.ts'
import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { EndpointRow, EndpointRowDraft, ServiceRow, ServiceRowDraft } from './schema.ts'

export function encodeService (service: Service): ServiceRowDraft {
  return {
    id: service.id,
    name: service.name,
    address: service.address ?? null,
    ports: JSON.stringify(service.ports),
    spiffe_ids: JSON.stringify(service.spiffeIds),
    callers: service.callers === undefined ? null : JSON.stringify(service.callers),
    static_endpoints: JSON.stringify(service.staticEndpoints),
    inbound: service.inbound,
    revision_number: service.revisionNumber,
    created_at: service.createdAtSeconds
  }
}

export function decodeService (row: ServiceRow): Service {
  return {
    id: row.id,
    name: row.name,
    ...row.address === null ? {} : { address: row.address as IpAddress },
    ports: JSON.parse(row.ports) as ServicePort[],
    spiffeIds: JSON.parse(row.spiffe_ids) as SpiffeId[],
    ...row.callers === null ? {} : { callers: JSON.parse(row.callers) as CallerPattern[] },
    staticEndpoints: JSON.parse(row.static_endpoints) as StaticEndpoint[],
    inbound: row.inbound as InboundMode,
    revisionNumber: row.revision_number,
    createdAtSeconds: row.created_at
  }
}

/** What no other service may have: its name, its address and its local ports. */
export function claimsOf ({ name, address, ports }: Pick<Service, 'name' | 'address' | 'ports'>): string[] {
  const localPorts = ports.flatMap(({ localPort }) => localPort === undefined ? [] : [`local port ${localPort}`])
  return [nameClaim(name), ...address === undefined ? [] : [`address ${address}`], ...localPorts]
}

export function nameClaim (name: string): string { return `name ${name}` }

export function encodeEndpoint (endpoint: ServiceEndpoint): EndpointRowDraft {
  const { id, agentId, spiffeId, address, node, transports, incarnation } = endpoint
  return { id, agent_id: agentId, spiffe_id: spiffeId, address, node, transports: transports.join(' '), incarnation }
}

export function decodeEndpoint (row: EndpointRow): ServiceEndpoint {
  return {
    id: row.id,
    agentId: row.agent_id as SpiffeId,
    spiffeId: row.spiffe_id as SpiffeId,
    address: row.address as IpAddress,
    node: row.node,
    transports: row.transports.split(' ') as EndpointTransport[],
    incarnation: row.incarnation
  }
}
