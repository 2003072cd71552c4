import type { RouteConfigurationInit, RouteInit } from '../../wire/generated/envoy-route.ts'
import type { Wire } from './ask-agent.ts'
import { key } from './filter-state.ts'
import { setHeader } from './filters.ts'
import { constant } from './names.ts'

/**
 * All requests to the workload itself. Out of a tunnel it learns of its caller what the tunnel's chain kept.
 * @param says of filters, by their names
 */
export function workloadRoutes (name: string, wire: Wire, says: RouteInit['typedPerFilterConfig'] = {}): RouteConfigurationInit {
  const caller = wire !== 'tunnelled' ? {}
    : { requestHeadersToAdd: [setHeader('x-forwarded-client-cert', `URI=%FILTER_STATE(${key.peer}:PLAIN)%`)] }
  return {
    name,
    virtualHosts: [{
      name: 'inbound',
      domains: ['*'],
      ...caller,
      routes: [{
        match: { prefix: '/' }, route: { cluster: constant.workload, timeout: { seconds: 0 } }, typedPerFilterConfig: says
      }]
    }]
  }
}
