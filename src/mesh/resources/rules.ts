import { hostAndPort } from '../../runtime/host-and-port.ts'
import { type PermissionInit, type PrincipalInit, type RBACInit, RBAC_Action as Action } from '../../wire/generated/envoy-rbac.ts'
import type { FilterInit } from '../../wire/generated/envoy-listener.ts'
import { NetworkRBAC as NetworkRbac } from '../../wire/generated/envoy-network-rbac.ts'
import type { Access } from '../access.ts'
import { beforePolicies } from '../decisions/report-form.ts'
import type { CallerPattern, MeshWorkload, Revoked } from '../mesh-state.ts'
import { extension } from './any.ts'
import { key } from './filter-state.ts'

/**
 * Tunnels end at this workload only: without the rule about `:authority` any authenticated peer could make the proxy connect to anything
 * from inside the namespace.
 */
export function httpRules ({ addresses }: MeshWorkload, { ports, others }: Access, proxyPorts: readonly number[]): RBACInit {
  const connect: PermissionInit = { header: { name: ':method', stringMatch: { exact: 'CONNECT' } } }
  const to = (authorities: readonly string[]): PermissionInit =>
    anyOf(authorities.map(exact => ({ header: { name: ':authority', stringMatch: { exact } } })))
  const at = (numbers: readonly number[]) => to(addresses.flatMap(address => numbers.map(port => hostAndPort(address, port))))
  // A port has one spelling: Envoy connects to 8080 for `08080` too, and no rule about 8080 would hold for that.
  const here = anyOf(addresses.map(anyPort).map(regex => ({ header: { name: ':authority', stringMatch: { safeRegex: { regex } } } })))
  const policies = Object.fromEntries(ports.filter(({ callers }) => callers.length > 0).map(({ port, callers }) => [`port/${port}`, {
    permissions: [allOf([connect, at([port])])], principals: callers.map(principal)
  }]))
  const rest = { notRule: at([...proxyPorts, ...ports.map(({ port }) => port)]) }
  return {
    action: Action.ALLOW,
    policies: { ...policies, others: { permissions: [allOf([connect, here, rest])], principals: others.map(principal) } }
  }
}

export function networkRules ({ ports, others }: Access, proxyPorts: readonly number[]): RBACInit {
  const policies = Object.fromEntries(ports.filter(({ callers }) => callers.length > 0).map(({ port, callers }) => [`port/${port}`, {
    permissions: [{ destinationPort: port }], principals: callers.map(principal)
  }]))
  const rest = { notRule: anyOf([...proxyPorts, ...ports.map(({ port }) => port)].map(destinationPort => ({ destinationPort }))) }
  return { action: Action.ALLOW, policies: { ...policies, others: { permissions: [rest], principals: others.map(principal) } } }
}

/**
 * Before any other rule: revoked certificates, since Envoy reads no CRL beside its SPIFFE validator; and those with several names. Envoy
 * chooses the bundle by one name of a certificate and holds rules against all of them, so that a federated domain's authority could add
 * a name of ours to its own (X509-SVID §2: exactly one URI).
 */
export function denyPeers ({ digests, ids }: Revoked): FilterInit[] {
  const principals: PrincipalInit[] = [
    ...[...ids].toSorted().map(principal),
    ...[...digests].toSorted().map(exact => ({ filterState: { key: key.peerDigest, stringMatch: { exact } } }))
  ]
  const permissions = [{ any: true }]
  const several: PrincipalInit = { filterState: { key: key.peer, stringMatch: { contains: severalNames } } }
  return [extension('envoy.filters.network.rbac', NetworkRbac, {
    statPrefix: 'peers',
    rules: { action: Action.DENY, policies: {
      [beforePolicies.severalNames]: { permissions, principals: [several] },
      ...principals.length === 0 ? {} : { [beforePolicies.revoked]: { permissions, principals } }
    } }
  })]
}

/** Between names, where Envoy lists them; a SPIFFE ID has none. */
const severalNames = ','

/** `spiffe://td/path/*` is everybody whose ID begins so; anything else is exactly that ID. */
function principal (pattern: CallerPattern): PrincipalInit {
  return { authenticated: { principalName: pattern.endsWith('/*') ? { prefix: pattern.slice(0, -1) } : { exact: pattern } } }
}

function anyPort (address: string): string { return `${hostAndPort(address, '').replaceAll(/[.[\]]/g, '\\$&')}[1-9][0-9]{0,4}` }

function anyOf (rules: readonly PermissionInit[]): PermissionInit { return { orRules: { rules } } }
function allOf (rules: readonly PermissionInit[]): PermissionInit { return { andRules: { rules } } }
