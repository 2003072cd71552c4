import {
  type RetryPolicyInit, Route, type RouteConfigurationInit, type RouteInit, type VirtualHostInit
} from '../../wire/generated/envoy-route.ts'
import type { XdsMatcher_MatcherList_PredicateInit as PredicateInit } from '../../wire/generated/xds-matcher.ts'
import { extension } from './any.ts'
import type { Wire } from './ask-agent.ts'
import { key } from './filter-state.ts'
import { setHeader } from './filters.ts'
import { constant } from './names.ts'

/** What is said of filters, by their names. */
export type SaidOfFilters = NonNullable<RouteInit['typedPerFilterConfig']>

/** Two ways for requests: `asked` for those that meet the condition. */
export interface DividedRequests { readonly when: PredicateInit, readonly asked: SaidOfFilters, readonly others: SaidOfFilters }

/**
 * All requests to the workload itself. Out of a tunnel it learns of its caller what the tunnel's chain kept.
 */
export function workloadRoutes (name: string, wire: Wire, says: SaidOfFilters | DividedRequests = {}): RouteConfigurationInit {
  const caller = wire !== 'tunnelled' ? {}
    : { requestHeadersToAdd: [setHeader('x-forwarded-client-cert', `URI=%FILTER_STATE(${key.peer}:PLAIN)%`)] }
  return { name, virtualHosts: [{ name: 'inbound', domains: ['*'], ...caller, ...routesOf(says) }] }
}

function routesOf (says: SaidOfFilters | DividedRequests): Pick<VirtualHostInit, 'routes' | 'matcher'> {
  if (!isDivided(says)) return { routes: [toWorkload(says)] }
  const action = (said: SaidOfFilters) => ({ action: extension('route', Route, toWorkload(said)) })
  return {
    matcher: { matcherList: { matchers: [{ predicate: says.when, onMatch: action(says.asked) }] }, onNoMatch: action(says.others) }
  }
}

function isDivided (says: SaidOfFilters | DividedRequests): says is DividedRequests { return 'asked' in says }

function toWorkload (typedPerFilterConfig: SaidOfFilters): RouteInit {
  const route = { cluster: constant.workload, timeout: { seconds: 0 }, retryPolicy: onceMore }
  return { match: { prefix: '/' }, route, typedPerFilterConfig }
}

/** Of methods that change nothing, and so may be done twice. */
export const changesNothing = { name: ':method', stringMatch: { safeRegex: { regex: 'GET|HEAD|OPTIONS' } } }

/** A workload ends connections on which nothing came for a while, and may just be doing so as a request comes. */
const onceMore: RetryPolicyInit = {
  retryOn: 'reset', numRetries: { value: 1 }, retriableRequestHeaders: [changesNothing]
}
