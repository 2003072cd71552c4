import { hostAndPort } from '../../runtime/host-and-port.ts'
import type { Endpoint, ServiceInit } from '../../wire/generated/assay-types.ts'
import type { ServiceState } from '../../wire/generated/cluster.ts'
import { formatRows, formatTable } from '../pretty.ts'
import { formatPort } from './port-flag.ts'

/** The block for one service, with an empty line after it. */
export function formatService (service: ServiceInit): string {
  const { ports = [], spiffeIds = [], staticEndpoints = [], callers } = service
  const patterns = callers?.patterns ?? []
  return `${formatRows([
    ['Service ID', service.id === undefined || service.id === '' ? '(none)' : service.id],
    ['Name', service.name ?? ''],
    ['Revision', `${service.revisionNumber ?? 0}`],
    ['Address', service.address === '' ? undefined : service.address],
    ...ports.map(port => ['Port', formatPort(port)] as const),
    ...spiffeIds.map(id => ['SPIFFE ID', id] as const),
    ...callers === undefined ? [['Callers', 'all of this trust domain'] as const] : [],
    ...callers !== undefined && patterns.length === 0 ? [['Callers', 'nobody'] as const] : [],
    ...patterns.map(pattern => ['Caller', pattern] as const),
    ...staticEndpoints.map(({ address = '', port = 0 }) => ['Static endpoint', formatAddress(address, port)] as const),
    ['Inbound', service.inbound === undefined || service.inbound === '' ? 'strict' : service.inbound]
  ], 17)}\n`
}

/** One line per service. */
export function formatServices (states: readonly ServiceState[]): string {
  return formatTable(['NAME', 'ADDRESS', 'PORTS', 'ENDPOINTS', 'NODES', 'SERVICE ID'], states.map(({ service, endpoints }) => [
    service?.name ?? '',
    service === undefined || service.address === '' ? '-' : service.address,
    (service?.ports ?? []).map(formatPort).join(' '),
    `${endpoints.length + (service?.staticEndpoints.length ?? 0)}`,
    `${new Set(endpoints.map(({ agentId }) => agentId)).size}`,
    service?.id ?? ''
  ]))
}

/** One line per endpoint that an agent reports. */
export function formatEndpoints (endpoints: readonly Endpoint[]): string {
  const rows = endpoints.map(({ address, spiffeId, node, transports, agentId }) =>
    [address, spiffeId, node === '' ? '-' : node, transports.join(' '), agentId])
  return formatTable(['ADDRESS', 'SPIFFE ID', 'NODE', 'TRANSPORTS', 'AGENT'], rows)
}

function formatAddress (address: string, port: number): string { return port === 0 ? address : hostAndPort(address, port) }
