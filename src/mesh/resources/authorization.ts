import { compileRbac } from '../../authz/rbac/compile-rbac.ts'
import { type ConnectionAccess, connectionAccess, noConnections } from '../../authz/rbac/connection-access.ts'
import type { Extension } from '../../authz/rbac/extension.ts'
import type { PeerSource } from '../../authz/rbac/peer.ts'
import { predicate } from '../../authz/rbac/predicate.ts'
import { perRoute, placeholders, rbacExtension, refuseEverything } from '../../authz/rbac/rbac-filter.ts'
import { TypedExtensionConfig } from '../../wire/generated/envoy-core.ts'
import type { HttpConnectionManagerInit } from '../../wire/generated/envoy-http-connection-manager.ts'
import { HttpExtAuthzPerRoute } from '../../wire/generated/envoy-http-ext-authz.ts'
import type { FilterInit } from '../../wire/generated/envoy-listener.ts'
import { NetworkExtAuthz } from '../../wire/generated/envoy-network-ext-authz.ts'
import { NetworkRBAC as NetworkRbac } from '../../wire/generated/envoy-network-rbac.ts'
import { RouteConfiguration } from '../../wire/generated/envoy-route.ts'
import type { MeshPolicies, MeshWorkload } from '../mesh-state.ts'
import { packed, typeUrlOf } from './any.ts'
import { askAboutConnection, askAboutRequest, askName, type Wire } from './ask-agent.ts'
import { key } from './filter-state.ts'
import { router } from './filters.ts'
import { connectionRules, type ConnectionPart, requestRules } from './names.ts'
import { type Resource, resource } from './resource.ts'
import { fromAgent } from './tls.ts'
import { type DividedRequests, type SaidOfFilters, workloadRoutes } from './workload-routes.ts'

export const filterType = typeUrlOf(TypedExtensionConfig)
export const routesType = typeUrlOf(RouteConfiguration)

/**
 * The place of the trust domain's policies in the chains of one workload, in front of all that passes anything on to it. What they say
 * comes by itself (`policyResources`), so that a change of policies changes no chain.
 */
export interface Authorization {
  /** For bytes of which nothing is known but who sends them; until the rules are there, Envoy closes connections. */
  network (wire: Wire): FilterInit[]
  /** Filters and routes: each request has one version of the routes, and of what these say of filters. */
  http (wire: Wire): HttpConnectionManagerInit
}

const peers: Readonly<Record<Wire, PeerSource>> = {
  direct: 'certificate',
  tunnelled: { filterState: key.peer, address: key.source },
  // Without TLS Envoy cannot look at a certificate, not even at one that is missing; this state is then missing too.
  plaintext: { filterState: key.peer }
}
const wires = ['direct', 'tunnelled', 'plaintext'] as const

/** Whether there are chains for it. */
export interface ChainsInUse { readonly http: boolean, readonly plaintext: boolean }

export function authorizationOf (workload: MeshWorkload): Authorization {
  return {
    network: wire => (['audit', 'decision'] as const).map(part => ({
      name: connectionRules(workload, wire, part),
      configDiscovery: { configSource: fromAgent, typeUrls: [typeUrlOf(NetworkRbac), typeUrlOf(NetworkExtAuthz)] }
    })),
    http: wire => ({
      rds: { configSource: fromAgent, routeConfigName: requestRules(workload, wire) },
      // What a route does not say of them is refused.
      httpFilters: [...placeholders(), askAboutRequest(workload.id, wire), router]
    })
  }
}

/** Who may have a connection, as far as policies say; `undefined`: they say nothing. */
export function accessBy (policies: MeshPolicies, { id }: MeshWorkload): ConnectionAccess | undefined {
  if (policies.kind === 'none') return undefined
  return policies.kind === 'unknown' ? noConnections : connectionAccess(policies.set, id)
}

/**
 * What stands in those places. Rules that Envoy can be told are its own filters. Of a workload with others the agent is asked about each
 * connection, and about requests that such a rule might be about. Without policies nobody is refused: chains that had any are about to go.
 * @param inUse for other chains nothing is worked out, and all is refused
 */
export function policyResources (workload: MeshWorkload, policies: MeshPolicies, inUse: ChainsInUse): Resource[] {
  return wires.flatMap(wire => {
    const isUsed = wire !== 'plaintext' || inUse.plaintext
    const { audit, decision } = networkFilters(workload, isUsed ? policies : unknown, wire)
    const filter = (part: ConnectionPart, { typedConfig }: Extension): Resource => {
      const name = connectionRules(workload, wire, part)
      return resource(TypedExtensionConfig, name, { name, typedConfig })
    }
    const routes = requestRules(workload, wire)
    const says = httpFilters(workload, isUsed && inUse.http ? policies : unknown, wire)
    return [
      filter('audit', audit), filter('decision', decision),
      resource(RouteConfiguration, routes, workloadRoutes(routes, wire, says))
    ]
  })
}

/** Type and name of each of these. */
export function policyNames (workload: MeshWorkload): Array<readonly [typeUrl: string, name: string]> {
  return wires.flatMap(wire => [
    [filterType, connectionRules(workload, wire, 'audit')], [filterType, connectionRules(workload, wire, 'decision')],
    [routesType, requestRules(workload, wire)]
  ] as const)
}

const unknown: MeshPolicies = { kind: 'unknown' }

function networkFilters ({ id }: MeshWorkload, policies: MeshPolicies, wire: Wire): Record<ConnectionPart, Extension> {
  const nothing = (name: 'audit' | 'allow') => rbacExtension({ name, enforced: undefined, shadow: undefined }, 'network')
  switch (policies.kind) {
    case 'none': return { audit: nothing('audit'), decision: nothing('allow') }
    // Nobody may be let in because no rule is known that refuses.
    case 'unknown': return { audit: nothing('audit'), decision: rbacExtension(refuseEverything, 'network') }
    case 'set': break
  }
  const { filters, concerns } = compileRbac(policies.set, id, { kind: 'network', peer: peers[wire], inOne: true })
  if (concerns !== false) return { audit: nothing('audit'), decision: askAboutConnection(id, wire) }
  const decision = filters.at(-1) ?? rbacExtension(refuseEverything, 'network')
  return { audit: filters.length > 1 ? filters[0] ?? nothing('audit') : nothing('audit'), decision }
}

function httpFilters ({ id }: MeshWorkload, policies: MeshPolicies, wire: Wire): SaidOfFilters | DividedRequests {
  const notAsked = { [askName]: packed(HttpExtAuthzPerRoute, { disabled: true }) }
  switch (policies.kind) {
    case 'none': return { ...perRoute([]), ...notAsked }
    case 'unknown': return { ...perRoute([rbacExtension(refuseEverything, 'http')]), ...notAsked }
    case 'set': break
  }
  const { filters, concerns } = compileRbac(policies.set, id, { kind: 'http', peer: peers[wire], apart: true, noTokens: true })
  const [asked, others] = [perRoute([]), { ...perRoute(filters), ...notAsked }]
  if (typeof concerns === 'boolean') return concerns ? asked : others
  // A route is chosen by filter state and headers alone; the state is there on each wire on which there is a caller.
  return { when: predicate(concerns, { filterState: key.peer }), asked, others }
}
