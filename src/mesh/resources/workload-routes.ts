import {
  type RetryPolicyInit, Route, type RouteConfigurationInit, type RouteInit, type VirtualHostInit
} from '../../wire/generated/envoy-route.ts'
import type { XdsMatcher_MatcherList_PredicateInit as PredicateInit } from '../../wire/generated/xds-matcher.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import { extension } from './any.ts'
import type { Wire } from './ask-agent.ts'
import { key } from './filter-state.ts'
import { setHeader } from './filters.ts'
import { constant } from './names.ts'

/** What is said of filters, by their names. */
export type SaidOfFilters = NonNullable<RouteInit['typedPerFilterConfig']>

/** Two ways for requests: by one of them callers of the own trust domain, of whom a filter has nothing to say, do not pay for it. */
export interface RequestsByDomain { readonly own: TrustDomain, readonly all: SaidOfFilters, readonly others: SaidOfFilters }

/** Two ways for requests: `asked` for those that meet the condition. */
export interface DividedRequests { readonly when: PredicateInit, readonly asked: SaidOfFilters, readonly others: SaidOfFilters }

/**
 * All requests to the workload itself. Out of a tunnel it learns of its caller what the tunnel's chain kept.
 */
export function workloadRoutes (name: string, wire: Wire, says: Said = {}): RouteConfigurationInit {
  const caller = wire !== 'tunnelled' ? {}
    : { requestHeadersToAdd: [setHeader('x-forwarded-client-cert', `URI=%FILTER_STATE(${key.peer}:PLAIN)%`)] }
  return { name, virtualHosts: [{ name: 'inbound', domains: ['*'], ...caller, ...routesOf(says) }] }
}

type Said = SaidOfFilters | DividedRequests | RequestsByDomain

function routesOf (says: Said): Pick<VirtualHostInit, 'routes' | 'matcher' | 'typedPerFilterConfig'> {
  if (isByDomain(says)) {
    const isOwn = { key: key.peer, stringMatch: { prefix: `spiffe://${says.own}/` } }
    return {
      typedPerFilterConfig: says.all,
      routes: [{ ...toWorkload({}), match: { prefix: '/', filterState: [isOwn] } }, toWorkload(says.others)]
    }
  }
  if (!isDivided(says)) return { routes: [toWorkload(says)] }
  const action = (said: SaidOfFilters) => ({ action: extension('route', Route, toWorkload(said)) })
  return {
    matcher: { matcherList: { matchers: [{ predicate: says.when, onMatch: action(says.asked) }] }, onNoMatch: action(says.others) }
  }
}

function isDivided (says: SaidOfFilters | DividedRequests): says is DividedRequests { return 'asked' in says }
function isByDomain (says: Said): says is RequestsByDomain { return 'own' in says }

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
