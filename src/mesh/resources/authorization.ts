import { compileRbac } from '../../authz/rbac/compile-rbac.ts'
import { celOfConnection, celOfPlaintext, celOfPolicies, celOfTunnel, celOfVerdict, type CelWords } from '../../authz/rbac/cel.ts'
import { type ConnectionAccess, connectionAccess, noConnections } from '../../authz/rbac/connection-access.ts'
import type { Extension } from '../../authz/rbac/extension.ts'
import type { PeerSource } from '../../authz/rbac/peer.ts'
import { predicate } from '../../authz/rbac/predicate.ts'
import { nameInChain, perRoute, placeholders, rbacExtension, refuseEverything } from '../../authz/rbac/rbac-filter.ts'
import { TypedExtensionConfig } from '../../wire/generated/envoy-core.ts'
import type { HttpConnectionManagerInit, HttpFilterInit } from '../../wire/generated/envoy-http-connection-manager.ts'
import type { FilterInit } from '../../wire/generated/envoy-listener.ts'
import { Config as HttpSetFilterState } from '../../wire/generated/envoy-http-set-filter-state.ts'
import { NetworkExtAuthz } from '../../wire/generated/envoy-network-ext-authz.ts'
import { NetworkRBAC as NetworkRbac } from '../../wire/generated/envoy-network-rbac.ts'
import { Config as SetFilterState } from '../../wire/generated/envoy-set-filter-state.ts'
import { RouteConfiguration } from '../../wire/generated/envoy-route.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { AnyInit } from '../../wire/generated/well-known.ts'
import type { MeshPolicies, MeshWorkload } from '../mesh-state.ts'
import { extension, typeUrlOf } from './any.ts'
import { askAboutConnection, askAboutRequest, asked, type Wire } from './ask-agent.ts'
import { key } from './filter-state.ts'
import { router } from './filters.ts'
import { reachState, streamVerdictStates, verdictStates } from './may-connect.ts'
import { connectionRules, type ConnectionPart, requestRules } from './names.ts'
import { type Resource, resource } from './resource.ts'
import { fromAgent } from './tls.ts'
import { type DividedRequests, type RequestsByDomain, type SaidOfFilters, workloadRoutes } from './workload-routes.ts'

export const filterType = typeUrlOf(TypedExtensionConfig)
export const routesType = typeUrlOf(RouteConfiguration)

/**
 * The place of the trust domain's policies in the chains of one workload, in front of all that passes anything on to it. What they say
 * comes by itself (`policyResources`), so that a change of policies changes no chain.
 */
export interface Authorization {
  /** For bytes of which nothing is known but who sends them; until the rules are there, Envoy closes connections. */
  network (wire: Wire): FilterInit[]
  /** Where tunnels end; until it is there, Envoy answers 500. */
  readonly tunnel: HttpFilterInit
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

const parts = ['reach', 'audit', 'decision'] as const
const networkTypes = [typeUrlOf(NetworkRbac), typeUrlOf(NetworkExtAuthz), typeUrlOf(SetFilterState)]

/** A filter whose configuration comes by itself. */
function told (workload: MeshWorkload, wire: Wire, part: ConnectionPart, typeUrls: readonly string[]) {
  return { name: connectionRules(workload, wire, part), configDiscovery: { configSource: fromAgent, typeUrls } }
}

export function authorizationOf (workload: MeshWorkload): Authorization {
  return {
    network: wire => parts.filter(part => part !== 'reach' || wire !== 'tunnelled').map(part => told(workload, wire, part, networkTypes)),
    tunnel: told(workload, 'tunnelled', 'reach', [typeUrlOf(HttpSetFilterState)]),
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
    const says = networkFilters(workload, isUsed ? policies : unknown, wire)
    const filter = (part: ConnectionPart, { typedConfig }: Extension): Resource => {
      const name = connectionRules(workload, wire, part)
      return resource(TypedExtensionConfig, name, { name, typedConfig })
    }
    const routes = requestRules(workload, wire)
    const requests = httpFilters(workload, isUsed && inUse.http ? policies : unknown, wire)
    return [
      ...parts.map(part => filter(part, says[part])),
      resource(RouteConfiguration, routes, workloadRoutes(routes, wire, requests))
    ]
  })
}

/** Type and name of each of these. */
export function policyNames (workload: MeshWorkload): Array<readonly [typeUrl: string, name: string]> {
  return wires.flatMap(wire => [
    ...parts.map(part => [filterType, connectionRules(workload, wire, part)] as const),
    [routesType, requestRules(workload, wire)]
  ] as const)
}

const unknown: MeshPolicies = { kind: 'unknown' }

function networkFilters (workload: MeshWorkload, policies: MeshPolicies, wire: Wire): Record<ConnectionPart, Extension> {
  return { reach: reachFilter(workload, policies, wire), ...rulesOf(workload, policies, wire) }
}

/** As far as it can be said with the handshake who will be refused. */
function reachFilter (workload: MeshWorkload, policies: MeshPolicies, wire: Wire): Extension {
  const access = accessBy(policies, workload)
  const steps = (words: CelWords) => celOfVerdict(access === undefined ? [] : celOfPolicies(access, words))
  const states = {
    direct: () => ({ onDownstreamTlsHandshake: reachState(verdictStates(steps(celOfConnection), 'after'), workload) }),
    plaintext: () => ({ onNewConnection: reachState(verdictStates(steps(celOfPlaintext), 'first'), workload) })
  }
  // Who calls is known where tunnels end; inside, CEL has it as bytes and no words for them.
  return wire === 'tunnelled' ? extension('reach', HttpSetFilterState, {
    onRequestHeaders: reachState(streamVerdictStates(steps(celOfTunnel)), workload)
  }) : extension('reach', SetFilterState, states[wire]())
}

function rulesOf ({ id }: MeshWorkload, policies: MeshPolicies, wire: Wire): Record<Exclude<ConnectionPart, 'reach'>, Extension> {
  const nothing = (name: 'audit' | 'allow') => rbacExtension({ name, enforced: undefined, shadow: undefined }, 'network')
  switch (policies.kind) {
    case 'none': return { audit: nothing('audit'), decision: nothing('allow') }
    // Nobody may be let in because no rule is known that refuses.
    case 'unknown': return { audit: nothing('audit'), decision: rbacExtension(refuseEverything, 'network') }
    case 'set': break
  }
  const { filters, concerns } = compileRbac(policies.set, id, { kind: 'network', peer: peers[wire], inOne: true, oneName: true })
  if (concerns !== false) return { audit: nothing('audit'), decision: askAboutConnection(id, wire) }
  const decision = filters.at(-1) ?? rbacExtension(refuseEverything, 'network')
  return { audit: filters.length > 1 ? filters[0] ?? nothing('audit') : nothing('audit'), decision }
}

function httpFilters (
  { id }: MeshWorkload, policies: MeshPolicies, wire: Wire
): SaidOfFilters | DividedRequests | RequestsByDomain {
  switch (policies.kind) {
    case 'none': return perRoute([])
    case 'unknown': return perRoute([rbacExtension(refuseEverything, 'http')])
    case 'set': break
  }
  // Certificates with several names come no further than the filters of their connection (`denyPeers`).
  const options = { kind: 'http', peer: peers[wire], apart: true, noTokens: true, oneName: true } as const
  const { filters, concerns } = compileRbac(policies.set, id, options)
  const [ofAgent, ofEnvoy] = [{ ...perRoute([]), ...asked }, perRoute(filters)]
  if (concerns === false) return byDomain(ofEnvoy, policies.set.trustDomain)
  if (concerns === true) return ofAgent
  // A route is chosen by filter state and headers alone; the state is there on each wire on which there is a caller.
  return { when: predicate(concerns, { filterState: key.peer }), asked: ofAgent, others: ofEnvoy }
}

/** Federation has nothing to say of callers of the own trust domain. */
function byDomain (said: SaidOfFilters, own: TrustDomain | undefined): SaidOfFilters | RequestsByDomain {
  const name = nameInChain('federation')
  const { [name]: federation, ...all } = said as Readonly<Record<string, AnyInit>>
  return own === undefined || federation === undefined ? said : { own, all, others: { [name]: federation } }
}
