import { z } from 'zod'
import { parsedBy } from '../../runtime/config-schema.ts'
import { formatSelector, parseSelector } from '../../spiffe/selector.ts'
import { parseTrustDomain } from '../../spiffe/trust-domain.ts'
import type { Match } from '../policy/match.ts'
import { longestValue, parseIdMatch, parseTextMatch } from '../policy/match-text.ts'
import type { AdminRole } from './role.ts'
import { adminVerbs, grantVerbs, type AdminVerb } from './verb.ts'

/** The key `roles` of a server's configuration. */

const most = { values: 1_000, roles: 1_000 }
const anything: Match = { kind: 'present' }

function list<T extends z.ZodType> (member: T) {
  return z.array(member).max(most.values, `must not have more than ${most.values} members`)
}

/** The star alone is everything. */
function pattern (parse: (text: string) => Match) {
  return list(parsedBy(text => {
    if (text.length > longestValue) throw new Error(`must not be longer than ${longestValue} characters`)
    return text === '*' ? anything : parse(text)
  }))
}

/** `unix:uid:1000`, or by whole parts between colons `k8s:pod-label:*`. */
function parseSelectorMatch (text: string): Match {
  if (text.endsWith(':*') && !text.slice(0, -1).includes('*')) return { kind: 'prefix', value: text.slice(0, -1) }
  if (text.includes('*')) throw new Error('a star stands for all that follows a colon, as in k8s:ns:*')
  return { kind: 'exact', value: formatSelector(parseSelector(text)) }
}

/** `web.internal`, or by whole labels `*.team-a.internal`. */
function parseNameMatch (text: string): Match {
  const match = parseTextMatch(text.toLowerCase())
  if (match.kind === 'prefix' || (match.kind === 'suffix' && !match.value.startsWith('.'))) {
    throw new Error('a star stands for the labels before a dot, as in *.team-a.internal')
  }
  return match
}

const scope = z.strictObject({
  ids: pattern(parseIdMatch).optional(),
  parents: pattern(parseIdMatch).optional(),
  agents: pattern(parseIdMatch).optional(),
  selectors: pattern(parseSelectorMatch).optional(),
  required_selectors: list(parsedBy(text => formatSelector(parseSelector(text)))).default([]),
  federates_with: pattern(text => ({ kind: 'exact', value: parseTrustDomain(text) })).optional(),
  dns_names: pattern(parseNameMatch).optional(),
  service_names: pattern(parseNameMatch).optional()
})

type ScopeKey = keyof z.output<typeof scope>

/** Without these a verb could do nothing: that is a mistake, not a choice. Of a list in the list one is enough. */
const neededKeys: Partial<Record<AdminVerb, ReadonlyArray<readonly ScopeKey[]>>> = {
  'entries.read': [['ids']],
  'entries.write': [['ids'], ['parents'], ['selectors']],
  'agents.read': [['agents']],
  'agents.ban': [['agents']],
  'agents.evict': [['agents']],
  'tokens.alias': [['ids']],
  'bundles.read': [['federates_with']],
  'bundles.write': [['federates_with']],
  'federation.read': [['federates_with']],
  'federation.write': [['federates_with']],
  'services.read': [['ids']],
  'services.write': [['ids'], ['service_names']],
  'svids.mint': [['ids']],
  'revocations.read': [['ids', 'agents']],
  'revocations.revoke': [['ids', 'agents']],
  'revocations.lift': [['ids', 'agents']]
}

const members = list(parsedBy(text => {
  if (text === '*') throw new Error('must not be everybody; write spiffe://<trust domain>/*')
  return parseIdMatch(text)
}))

const role = z.strictObject({
  name: z.string().regex(/^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$/, 'must be 1 to 64 of a-z 0-9 . - _, with a letter or digit at both ends'),
  members: members.default([]),
  uids: list(z.int().min(0, 'must be a user\'s number').max(4_294_967_294, 'must be a user\'s number')).default([]),
  verbs: list(z.enum(adminVerbs as [AdminVerb, ...AdminVerb[]])).min(1, 'must not be empty'),
  scope: scope.prefault({})
}).check(({ value, issues }) => {
  const refuse = (path: string[], message: string) => issues.push({ code: 'custom', path, message, input: undefined })
  if (value.members.length + value.uids.length === 0) refuse(['members'], 'is required, or uids: a role without holders is none')
  for (const verb of value.verbs) {
    const beside = grantVerbs.get(verb)
    if (beside !== undefined && !value.verbs.includes(beside)) refuse(['verbs'], `${verb} is nothing without ${beside}`)
    if (verb.startsWith('server.') && value.uids.length === 0) refuse(['verbs'], `${verb} is offered on the admin socket only: name uids`)
    for (const keys of neededKeys[verb] ?? []) {
      if (keys.every(key => value.scope[key] === undefined)) {
        refuse(['scope', keys[0] as string], `is needed for ${verb}; ["*"] is everything`)
      }
    }
  }
}).transform(({ name, members, uids, verbs, scope }): AdminRole => ({
  name,
  members,
  uids,
  verbs: new Set(verbs),
  scope: {
    ids: scope.ids,
    parents: scope.parents,
    agents: scope.agents,
    selectors: scope.selectors,
    requiredSelectors: scope.required_selectors,
    federatesWith: scope.federates_with,
    dnsNames: scope.dns_names,
    serviceNames: scope.service_names
  }
}))

/** Roles by name, each once. */
export const rolesSchema = z.array(role).max(most.roles, `must not have more than ${most.roles} members`).check(({ value, issues }) => {
  for (const [index, { name }] of value.entries()) {
    if (value.findIndex(other => other.name === name) === index) continue
    issues.push({ code: 'custom', path: [index, 'name'], message: 'is the name of another role', input: undefined })
  }
})
