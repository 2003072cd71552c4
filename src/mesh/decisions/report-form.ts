/** What proxy and agent agree on in reports of decisions that the proxy took by itself. */

/** Tags of a report, by what the proxy's filters kept of the connection. `-`: nothing. */
export const reportTag = { source: 'source', sourceAddress: 'source_address', destination: 'destination', verdict: 'verdict' } as const

/** Headers of requests that are told; no others are, since they may hold what no log should. */
export const reportedHeaders = [':method', ':path', ':authority', 'x-request-id', 'traceparent'] as const

/** Where Envoy's RBAC leaves its verdicts, under names that begin with the filter's and `_`. */
export const rbacMetadata = 'envoy.filters.http.rbac'
export const verdictSuffix = { result: '_enforced_engine_result', rule: '_enforced_effective_policy_id' } as const
export const denied = 'denied'

/** Filters that may refuse, in the order of the chain. */
export const refusingFilters = ['federation', 'deny', 'allow'] as const

/** Names of refusals that come before any policy. */
export const beforePolicies = { severalNames: 'several-names', revoked: 'revoked' } as const
