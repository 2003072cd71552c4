import { callersDomain } from '../../spiffe/caller-pattern.ts'
import { serverIdOf } from '../../spiffe/member-id.ts'
import { formatSelector } from '../../spiffe/selector.ts'
import { trustDomainOf, type SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import { matches, type Match } from '../policy/match.ts'
import type { AdminObject, EntryFacts, ServiceFacts } from './admin-object.ts'
import type { AdminRole, AdminScope } from './role.ts'
import { isReading, type AdminVerb, type GrantVerb } from './verb.ts'

/** Who administers: whoever can have an SVID made for such an ID, or says by a bundle who such a partner's members are, is one of them. */
export interface Privileges {
  ofId (id: SpiffeId): Powers & { readonly downstream: boolean }
  /** Of any of the domain's members. */
  ofDomain (trustDomain: TrustDomain): Powers
}

export interface Powers {
  /** May do all. */
  readonly admin: boolean
  /** Names of the roles held. */
  readonly roles: readonly string[]
}

/** The part of an object that no role covers; `verb`: a verb or a further grant is missing. */
export type OutsidePart =
  | 'verb' | 'SPIFFE ID' | 'parent ID' | 'selector' | 'required selector' | 'federation partner' | 'DNS name' | 'agent ID' | 'service name'

export type AdminDecision =
  | { readonly allowed: true, readonly role: string }
  | {
    readonly allowed: false
    /** The role that came nearest; absent when none grants the verb. */
    readonly role: string | undefined
    readonly outside: OutsidePart
    /** What is outside: for the operator, since it may be of something that the caller cannot see. */
    readonly value: string
  }

interface Outside { readonly part: OutsidePart, readonly value: string }

/**
 * Decides by the roles that a caller holds. One role alone must grant the verb, all further grants that the object needs, and cover the
 * object: scopes of several roles do not add up within one object.
 * @param object absent: the verb alone decides; every verb that acts on objects is asked again with each of them
 */
export function decideAdministration (
  roles: readonly AdminRole[], verb: AdminVerb, object: AdminObject | undefined, privileges: Privileges
): AdminDecision {
  const needed = object === undefined ? [] : grantsFor(verb, object, privileges, roles)
  let nearest: (Outside & { readonly role: string }) | undefined
  for (const { name, verbs, scope } of roles) {
    if (!verbs.has(verb)) continue
    const outside = object === undefined ? undefined : outsideOf(scope, object, isReading(verb)) ?? missing(verbs, needed)
    if (outside === undefined) return { allowed: true, role: name }
    nearest ??= { ...outside, role: name }
  }
  if (nearest === undefined) return { allowed: false, role: undefined, outside: 'verb', value: verb }
  return { allowed: false, role: nearest.role, outside: nearest.part, value: nearest.value }
}

function missing (verbs: ReadonlySet<AdminVerb>, needed: readonly GrantVerb[]): Outside | undefined {
  const value = needed.find(grant => !verbs.has(grant))
  return value === undefined ? undefined : { part: 'verb', value }
}

function grantsFor (verb: AdminVerb, object: AdminObject, privileges: Privileges, roles: readonly AdminRole[]): GrantVerb[] {
  if (isReading(verb)) return []
  switch (object.kind) {
    case 'entry': {
      const { entry } = object
      const grants = new Set(grantsForId(entry.spiffeId, privileges, roles))
      if (entry.admin) grants.add('entries.admin')
      if (entry.downstream) grants.add('entries.downstream')
      if (isNodeAlias(entry)) grants.add('entries.alias')
      return [...grants]
    }
    case 'svid': return grantsForId(object.id, privileges, roles)
    case 'token': return object.alias === undefined ? [] : ['tokens.alias', ...grantsForId(object.alias, privileges, roles)]
    case 'bundle': return [
      ...exceeds(privileges.ofDomain(object.trustDomain), roles) ? ['bundles.admin' as const] : [],
      ...object.detaches ? ['bundles.detach' as const] : []
    ]
    case 'federation': return exceeds(privileges.ofDomain(object.trustDomain), roles) ? ['federation.admin'] : []
    case 'service': return claimsPlaces(object.service) ? ['services.address'] : []
    default: return []
  }
}

function grantsForId (id: SpiffeId, privileges: Privileges, roles: readonly AdminRole[]): GrantVerb[] {
  const powers = privileges.ofId(id)
  return [...exceeds(powers, roles) ? ['entries.admin' as const] : [], ...powers.downstream ? ['entries.downstream' as const] : []]
}

/** Whether these powers are more than the caller's own. */
function exceeds (powers: Powers, roles: readonly AdminRole[]): boolean {
  return powers.admin || powers.roles.some(name => !roles.some(role => role.name === name))
}

function isNodeAlias ({ parentId }: EntryFacts): boolean { return parentId === serverIdOf(trustDomainOf(parentId)) }

function claimsPlaces ({ address, ports }: ServiceFacts): boolean {
  return address !== undefined || ports.some(({ localPort }) => localPort !== undefined)
}

/** The first part of the object that the scope does not cover. */
function outsideOf (scope: AdminScope, object: AdminObject, reading: boolean): Outside | undefined {
  const each = (part: OutsidePart, allowed: readonly Match[] | undefined, values: Iterable<string>): Outside | undefined => {
    if (allowed === undefined && reading) return undefined
    for (const value of values) if (allowed?.some(match => matches(match, value)) !== true) return { part, value }
    return undefined
  }
  const id = (values: readonly string[]) => each('SPIFFE ID', scope.ids ?? [], values)
  switch (object.kind) {
    case 'entry': {
      const { entry } = object
      const selectors = entry.selectors.map(formatSelector)
      const required = scope.requiredSelectors.find(selector => !selectors.includes(selector))
      return id([entry.spiffeId]) ??
        each('parent ID', scope.parents, isNodeAlias(entry) ? [] : [entry.parentId]) ??
        each('selector', scope.selectors, selectors) ??
        (required === undefined ? undefined : { part: 'required selector', value: required }) ??
        each('federation partner', scope.federatesWith, entry.federatesWith) ??
        each('DNS name', scope.dnsNames, entry.dnsNames)
    }
    case 'agent': return each('agent ID', scope.agents ?? [], [object.id])
    case 'token': {
      const { agentId, alias } = object
      return each('agent ID', scope.agents, agentId === undefined ? [] : [agentId]) ?? id(alias === undefined ? [] : [alias])
    }
    case 'bundle':
    case 'federation': return each('federation partner', scope.federatesWith ?? [], [object.trustDomain])
    case 'service': {
      const { name, spiffeIds, callers = [] } = object.service
      // Whoever serves it is of the scope; whoever else comes from elsewhere must be of a partner.
      const own = new Set(spiffeIds.map(trustDomainOf))
      const foreign = callers.map(callersDomain).filter(domain => !own.has(domain))
      return id(spiffeIds) ?? each('service name', scope.serviceNames, [name]) ??
        each('federation partner', scope.federatesWith, foreign)
    }
    case 'svid': return id([object.id]) ?? each('DNS name', scope.dnsNames, object.dnsNames)
    default: return object.of === 'node' ? each('agent ID', scope.agents ?? [], [object.subject]) : id([object.subject])
  }
}
