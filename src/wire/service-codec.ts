import type { RawServiceDraft } from '../spiffe/check-service.ts'
import { checkService } from '../spiffe/check-service.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { checkLocalEndpoint, endpointOf, type LocalEndpoint, type ServiceEndpoint } from '../spiffe/service-endpoint.ts'
import type { Service, ServiceDraft } from '../spiffe/service.ts'
import { parseSpiffeId } from '../spiffe/spiffe-id.ts'
import type { Endpoint as EndpointMessage, EndpointInit, Service as ServiceMessage, ServiceInit } from './generated/assay-types.ts'

export function encodeService (service: ServiceDraft | Service): ServiceInit {
  return {
    id: service.id,
    name: service.name,
    address: service.address,
    ports: service.ports,
    spiffeIds: service.spiffeIds,
    callers: service.callers && { patterns: service.callers },
    staticEndpoints: service.staticEndpoints,
    inbound: service.inbound,
    ...'revisionNumber' in service ? { revisionNumber: service.revisionNumber, createdAt: service.createdAtSeconds } : {}
  }
}

/** A new or changed service as sent, before `checkService`. */
export function decodeServiceDraft (message: ServiceMessage): RawServiceDraft {
  const { id, name, address, ports, spiffeIds, callers, staticEndpoints, inbound } = message
  return { id, name, address, ports, spiffeIds, callers: callers?.patterns, staticEndpoints, inbound }
}

/** A stored service. @throws {SpiffeError} `service_malformed` */
export function decodeService (message: ServiceMessage): Service {
  if (message.id === '') throw new SpiffeError('service_malformed', 'a service without an id')
  return {
    ...checkService(decodeServiceDraft(message)),
    revisionNumber: Number(message.revisionNumber),
    createdAtSeconds: Number(message.createdAt)
  }
}

/** @param endpoint without id and agent when an agent speaks of its own */
export function encodeEndpoint (endpoint: LocalEndpoint | ServiceEndpoint): EndpointInit {
  const { spiffeId, address, node, transports, incarnation } = endpoint
  return { ...'id' in endpoint ? { id: endpoint.id, agentId: endpoint.agentId } : {}, spiffeId, address, node, transports, incarnation }
}

/** What an agent says of its own node. @throws {SpiffeError} `service_malformed` */
export function decodeLocalEndpoint ({ spiffeId, address, node, transports, incarnation }: EndpointMessage): LocalEndpoint {
  return checkLocalEndpoint({ spiffeId, address, node, transports, incarnation })
}

/** What a server says. @throws {SpiffeError} `service_malformed`, `spiffe_id_malformed` */
export function decodeEndpoint (message: EndpointMessage): ServiceEndpoint {
  const endpoint = endpointOf(parseSpiffeId(message.agentId), decodeLocalEndpoint(message))
  if (endpoint.id !== message.id) throw new SpiffeError('service_malformed', 'an endpoint\'s id does not follow from what it says')
  return endpoint
}
