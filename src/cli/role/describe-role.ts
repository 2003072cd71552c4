import type { AdminScope } from '../../authz/admin/role.ts'
import type { Match } from '../../authz/policy/match.ts'

/** As the configuration writes it. */
export function formatMatch (match: Match): string {
  if (match.kind === 'prefix') return `${match.value}*`
  if (match.kind === 'suffix') return `*${match.value}`
  return 'value' in match ? match.value : '*'
}

/** A line for each key that is there, e.g. `ids: spiffe://example.org/team-a/*`. */
export function describeScope (scope: AdminScope): string[] {
  const keys: ReadonlyArray<readonly [string, readonly Match[] | undefined]> = [
    ['ids', scope.ids], ['parents', scope.parents], ['agents', scope.agents], ['selectors', scope.selectors],
    ['federates_with', scope.federatesWith], ['dns_names', scope.dnsNames], ['service_names', scope.serviceNames]
  ]
  return [
    ...keys.flatMap(([key, matches]) => matches === undefined ? [] : [`${key}: ${matches.map(formatMatch).join(' ') || 'none'}`]),
    ...scope.requiredSelectors.length === 0 ? [] : [`required_selectors: ${scope.requiredSelectors.join(' ')}`]
  ]
}
