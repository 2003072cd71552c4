import { Random } from '../../fakes/random.ts'
import type { RawRole } from '../../fakes/roles.ts'
import type { AdminObject, EntryFacts } from '../../../src/authz/admin/admin-object.ts'
import type { Privileges } from '../../../src/authz/admin/decide.ts'
import type { AdminVerb } from '../../../src/authz/admin/verb.ts'
import type { SpiffeId } from '../../../src/spiffe/spiffe-id.ts'
import type { TrustDomain } from '../../../src/spiffe/trust-domain.ts'

/** Who calls, as what the server knows of the call. */
export type Holder = { readonly id: string } | { readonly uid: number }

export interface Question {
  readonly roles: readonly RawRole[]
  readonly holder: Holder
  readonly verb: AdminVerb
  readonly object: AdminObject | undefined
  readonly admins: readonly string[]
  readonly downstreams: readonly string[]
}

const segments = ['team-a', 'team-ab', 'team', 'Team-a', 'a', 'b', 'web', 'ci', '..a', 'team-a.', 'ns']
const domains = ['example.org', 'partner.test', 'example.org.evil', 'xexample.org']
const selectorParts = ['k8s:ns:team-a', 'k8s:ns:team-ab', 'k8s:sa:web', 'unix:uid:1', 'unix:uid:10', 'k8sx:ns:team-a']
const names = ['web.team-a.internal', 'web.team-ab.internal', 'team-a.internal', 'xteam-a.internal', 'db.internal']
const verbs: readonly AdminVerb[] = [
  'entries.read', 'entries.write', 'agents.read', 'agents.ban', 'agents.evict', 'bundles.read', 'bundles.write', 'svids.mint',
  'federation.read', 'federation.write',
  'tokens.create', 'services.read', 'services.write', 'revocations.revoke', 'revocations.read', 'cluster.read', 'authorities.change'
]
const grants: ReadonlyArray<readonly [AdminVerb, AdminVerb]> = [
  ['entries.write', 'entries.admin'], ['entries.write', 'entries.downstream'], ['entries.write', 'entries.alias'],
  ['tokens.create', 'tokens.alias'], ['bundles.write', 'bundles.detach'], ['bundles.write', 'bundles.admin'],
  ['federation.write', 'federation.admin'],
  ['services.write', 'services.address']
]

function many<T> (random: Random, most: number, make: () => T): T[] { return Array.from({ length: random.below(most + 1) }, make) }

function randomPath (random: Random): string {
  return Array.from({ length: 1 + random.below(3) }, () => random.pick(segments)).join('/')
}

function randomId (random: Random): string {
  return `spiffe://${random.chance(0.8) ? domains[0] : random.pick(domains)}/${randomPath(random)}`
}

function randomAgentId (random: Random): string { return `spiffe://example.org/spire/agent/${randomPath(random)}` }

function randomIdPattern (random: Random, id = randomId): string {
  const roll = random.next()
  if (roll < 0.08) return '*'
  if (roll < 0.16) return `spiffe://${random.pick(domains)}/*`
  return roll < 0.7 ? `${id(random)}/*` : id(random)
}

function randomSelectorPattern (random: Random): string {
  const roll = random.next()
  if (roll < 0.2) return '*'
  const selector = random.pick(selectorParts)
  return roll < 0.6 ? `${selector.slice(0, selector.lastIndexOf(':'))}:*` : selector
}

function randomName (random: Random): string {
  const roll = random.next()
  return roll < 0.15 ? '*' : roll < 0.55 ? '*.team-a.internal' : random.pick(names)
}

function randomRole (random: Random, index: number): RawRole {
  const granted = new Set(many(random, 5, () => random.pick(verbs)))
  granted.add(random.pick(verbs))
  for (const [beside, grant] of grants) if (granted.has(beside) && random.chance(0.4)) granted.add(grant)
  const list = (make: () => string) => [make(), ...many(random, 2, make)]
  const maybe = (make: () => string) => random.chance(0.7) ? list(make) : undefined
  return {
    name: `r${index}`,
    members: list(() => { const member = randomIdPattern(random); return member === '*' ? 'spiffe://example.org/*' : member }),
    uids: many(random, 2, () => random.below(4)),
    verbs: [...granted],
    scope: {
      ids: list(() => randomIdPattern(random)),
      parents: list(() => randomIdPattern(random)),
      selectors: list(() => randomSelectorPattern(random)),
      required_selectors: random.chance(0.2) ? [random.pick(selectorParts)] : [],
      agents: list(() => randomIdPattern(random, randomAgentId)),
      federates_with: list(() => random.chance(0.2) ? '*' : random.pick(domains)),
      dns_names: maybe(() => randomName(random)),
      service_names: list(() => randomName(random))
    }
  }
}

function randomEntry (random: Random): EntryFacts {
  const parent = random.chance(0.15) ? 'spiffe://example.org/spire/server' : random.chance(0.4) ? randomAgentId(random) : randomId(random)
  return {
    spiffeId: randomId(random) as SpiffeId,
    parentId: parent as SpiffeId,
    selectors: [random.pick(selectorParts), ...many(random, 1, () => random.pick(selectorParts))].map(text => {
      const colon = text.indexOf(':')
      return { type: text.slice(0, colon), value: text.slice(colon + 1) }
    }),
    federatesWith: random.chance(0.3) ? [random.pick(domains) as TrustDomain] : [],
    dnsNames: random.chance(0.3) ? [random.pick(names)] : [],
    admin: random.chance(0.1),
    downstream: random.chance(0.1)
  }
}

function randomObject (random: Random, verb: AdminVerb): AdminObject | undefined {
  if (verb.startsWith('entries.')) return { kind: 'entry', entry: randomEntry(random) }
  if (verb.startsWith('agents.')) return { kind: 'agent', id: randomAgentId(random) as SpiffeId }
  if (verb.startsWith('bundles.')) return { kind: 'bundle', trustDomain: random.pick(domains) as TrustDomain, detaches: random.chance(0.3) }
  if (verb.startsWith('federation.')) return { kind: 'federation', trustDomain: random.pick(domains) as TrustDomain }
  if (verb === 'svids.mint') {
    return { kind: 'svid', id: randomId(random) as SpiffeId, dnsNames: random.chance(0.3) ? [random.pick(names)] : [] }
  }
  if (verb === 'tokens.create') {
    return {
      kind: 'token',
      agentId: random.chance(0.3) ? randomAgentId(random) as SpiffeId : undefined,
      alias: random.chance(0.5) ? randomId(random) as SpiffeId : undefined
    }
  }
  if (verb.startsWith('services.')) {
    const callers = random.chance(0.5) ? undefined : many(random, 2, () => randomId(random)) as never
    return {
      kind: 'service',
      service: {
        name: random.pick(names),
        address: random.chance(0.2) ? '10.0.0.1' as never : undefined,
        ports: [{ name: '', port: 1, targetPort: 1, protocol: 'tcp', ...random.chance(0.2) ? { localPort: 7 } : {} }],
        spiffeIds: [randomId(random), ...many(random, 1, () => randomId(random))] as SpiffeId[],
        callers
      }
    }
  }
  if (!verb.startsWith('revocations.')) return undefined
  const of = random.pick(['svid', 'spiffe_id', 'node'] as const)
  return { kind: 'revocation', of, subject: (of === 'node' ? randomAgentId(random) : randomId(random)) as SpiffeId }
}

/** A role's own pattern, filled in: most random IDs would lie outside of everything. */
function aim (random: Random, { scope }: RawRole, object: AdminObject | undefined): AdminObject | undefined {
  const fill = (patterns: readonly string[] | undefined, fallback: string) => {
    const pattern = patterns === undefined || patterns.length === 0 ? '*' : random.pick(patterns)
    if (pattern === '*') return fallback as SpiffeId
    return (pattern.endsWith('/*') ? `${pattern.slice(0, -1)}${randomPath(random)}` : pattern) as SpiffeId
  }
  if (object?.kind === 'entry') {
    const { entry } = object
    const parentId = random.chance(0.8) ? fill(scope?.parents, entry.parentId) : entry.parentId
    return { kind: 'entry', entry: { ...entry, spiffeId: fill(scope?.ids, entry.spiffeId), parentId } }
  }
  if (object?.kind === 'agent') return { kind: 'agent', id: fill(scope?.agents, object.id) }
  if (object?.kind === 'svid') return { ...object, id: fill(scope?.ids, object.id) }
  if (object?.kind === 'service') {
    return { kind: 'service', service: { ...object.service, spiffeIds: object.service.spiffeIds.map(id => fill(scope?.ids, id)) } }
  }
  if (object?.kind === 'revocation') return { ...object, subject: fill(object.of === 'node' ? scope?.agents : scope?.ids, object.subject) }
  return object
}

export function randomQuestion (random: Random): Question {
  const roles = Array.from({ length: 1 + random.below(4) }, (_, index) => randomRole(random, index))
  // Mostly somebody with a role that grants the verb: the rest is refused too soon to be of interest.
  const role = random.pick(roles)
  const verb = random.chance(0.15) ? random.pick(verbs) : random.pick(role.verbs.filter(verb => verbs.includes(verb)))
  const object = randomObject(random, verb)
  const member = random.pick(role.members ?? []) ?? 'spiffe://example.org/x'
  const near = member.endsWith('/*') ? `${member.slice(0, -1)}${randomPath(random)}` : member
  return {
    roles,
    holder: random.chance(0.2) ? { uid: random.below(5) } : { id: random.chance(0.7) ? near : randomId(random) },
    verb,
    object: random.chance(0.7) ? aim(random, role, object) : object,
    admins: many(random, 1, () => randomId(random)),
    downstreams: many(random, 1, () => randomId(random))
  }
}

export function privilegesOf ({ roles, admins, downstreams }: Question): Privileges {
  return {
    ofId: id => ({
      admin: admins.includes(id),
      downstream: downstreams.includes(id),
      roles: roles.filter(role => holds(role, { id })).map(({ name }) => name)
    }),
    ofDomain: domain => ({
      admin: admins.some(id => id.split('/')[2] === domain),
      roles: roles.filter(role => (role.members ?? []).some(member => member.split('/')[2] === domain)).map(({ name }) => name)
    })
  }
}

function parts (text: string): string[] { return text.split('/').slice(2) }

/** Segment by segment, where the product compares strings. */
function idFits (pattern: string, id: string): boolean {
  if (pattern === '*') return true
  const [want, have] = [parts(pattern), parts(id)]
  if (want.at(-1) !== '*') return want.length === have.length && want.every((part, index) => part === have[index])
  want.pop()
  return have.length > want.length && want.every((part, index) => part === have[index])
}

function selectorFits (pattern: string, selector: string): boolean {
  if (pattern === '*') return true
  const [want, have] = [pattern.split(':'), selector.split(':')]
  if (want.at(-1) !== '*') return want.join(':') === have.join(':')
  want.pop()
  return have.length > want.length && want.every((part, index) => part === have[index])
}

function nameFits (pattern: string, name: string): boolean {
  if (pattern === '*') return true
  const [want, have] = [pattern.split('.').toReversed(), name.split('.').toReversed()]
  if (want.at(-1) !== '*') return want.join('.') === have.join('.')
  want.pop()
  return have.length > want.length && want.every((part, index) => part === have[index])
}

export function holds (role: RawRole, holder: Holder): boolean {
  if ('uid' in holder) return (role.uids ?? []).includes(holder.uid)
  return parts(holder.id)[1] !== 'spire' && (role.members ?? []).some(member => idFits(member, holder.id))
}

/** The documentation's rules, once more: slow, and by other means. */
export function mayDo (question: Question): boolean {
  const { roles, holder, verb, object, admins, downstreams } = question
  const mine = roles.filter(role => holds(role, holder))
  const reads = verb.endsWith('.read')
  const stronger = (id: string) => admins.includes(id) ||
    roles.some(role => holds(role, { id }) && !mine.some(own => own.name === role.name))
  const idGrants = (id: string): AdminVerb[] =>
    [...stronger(id) ? ['entries.admin' as const] : [], ...downstreams.includes(id) ? ['entries.downstream' as const] : []]
  return mine.some(({ verbs, scope = {} }) => {
    if (!verbs.includes(verb)) return false
    if (object === undefined) return true
    const needs: AdminVerb[] = []
    const all = (values: readonly string[], patterns: readonly string[] | undefined, fits: (pattern: string, value: string) => boolean) =>
      (patterns === undefined && reads) || values.every(value => (patterns ?? []).some(pattern => fits(pattern, value)))
    let inside = false
    switch (object.kind) {
      case 'entry': {
        const { entry } = object
        const alias = entry.parentId.endsWith('/spire/server') && parts(entry.parentId).length === 3
        const selectors = entry.selectors.map(({ type, value }) => `${type}:${value}`)
        inside = all([entry.spiffeId], scope.ids, idFits) && (alias || all([entry.parentId], scope.parents, idFits)) &&
          all(selectors, scope.selectors, selectorFits) && (scope.required_selectors ?? []).every(one => selectors.includes(one)) &&
          all(entry.federatesWith, scope.federates_with, nameFits) && all(entry.dnsNames, scope.dns_names, nameFits)
        needs.push(...idGrants(entry.spiffeId))
        if (alias) needs.push('entries.alias')
        if (entry.admin) needs.push('entries.admin')
        if (entry.downstream) needs.push('entries.downstream')
        break
      }
      case 'agent':
        inside = all([object.id], scope.agents, idFits)
        break
      case 'bundle': {
        inside = all([object.trustDomain], scope.federates_with, nameFits)
        if (object.detaches) needs.push('bundles.detach')
        const there = (text: string) => parts(text)[0] === object.trustDomain
        const others = roles.filter(role => (role.members ?? []).some(there) && !mine.includes(role))
        if (admins.some(there) || others.length > 0) needs.push('bundles.admin')
        break
      }
      case 'federation': {
        inside = all([object.trustDomain], scope.federates_with, nameFits)
        const there = (text: string) => parts(text)[0] === object.trustDomain
        const others = roles.filter(role => (role.members ?? []).some(there) && !mine.includes(role))
        if (admins.some(there) || others.length > 0) needs.push('federation.admin')
        break
      }
      case 'svid':
        inside = all([object.id], scope.ids, idFits) && all(object.dnsNames, scope.dns_names, nameFits)
        needs.push(...idGrants(object.id))
        break
      case 'token':
        inside = all(object.agentId === undefined ? [] : [object.agentId], scope.agents, idFits)
        if (object.alias === undefined) break
        inside &&= all([object.alias], scope.ids, idFits)
        needs.push('tokens.alias', ...idGrants(object.alias))
        break
      case 'service': {
        const { spiffeIds, callers = [], name, address, ports } = object.service
        const served = spiffeIds.map(id => parts(id)[0])
        const strangers = callers.map(caller => parts(caller)[0] as string).filter(domain => !served.includes(domain))
        inside = all(spiffeIds, scope.ids, idFits) && all([name], scope.service_names, nameFits) &&
          all(strangers, scope.federates_with, nameFits)
        if (address !== undefined || ports.some(({ localPort }) => localPort !== undefined)) needs.push('services.address')
        break
      }
      default: inside = all([object.subject], object.of === 'node' ? scope.agents : scope.ids, idFits)
    }
    return inside && (reads || needs.every(need => verbs.includes(need)))
  })
}
