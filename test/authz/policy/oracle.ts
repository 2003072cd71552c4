import type { Rule, Test } from '../../../src/authz/policy/rule.ts'
import type { Match } from '../../../src/authz/policy/match.ts'
import type { PolicySet } from '../../../src/authz/policy/policy-set.ts'
import type { AuthzRequest } from '../../../src/authz/policy/request.ts'

/**
 * Decides by walking every rule: slow, plain, and written from docs/policies.md without the engine's code.
 * @returns `allow` or `deny`, and the rule or reason that decided
 */
export function judge (set: PolicySet, request: AuthzRequest): string {
  const { id } = request.source
  const domain = id?.slice('spiffe://'.length).split('/')[0]
  if (domain !== undefined && set.trustDomain !== undefined && ![set.trustDomain, ...set.trustDomainAliases].some(own => own === domain)) {
    const lets = set.scopes.some(({ trustDomain, accept, workloads, until }) => trustDomain === domain &&
      accept.some(match => meets(match, id ?? '')) && (until === undefined || until.getTime() > request.time.getTime()) &&
      (workloads === undefined || workloads.some(match => request.destination.id !== undefined && meets(match, request.destination.id))))
    if (!lets) return `deny federation/${domain}`
  }
  const rules = set.rules.filter(({ shadow }) => !shadow)
  for (const rule of rules) if (rule.action === 'deny' && truthOf(rule, request) !== 'no') return `deny ${rule.name}`
  for (const rule of rules) if (rule.action === 'allow' && truthOf(rule, request) === 'yes') return `allow ${rule.name}`
  const about = rules.some(rule => rule.action === 'allow' && all(rule.target.map(test => truthOfTest(test, request))) !== 'no')
  return about ? 'deny no-rule-allows' : `${set.defaultAction} default`
}

type Answer = 'yes' | 'no' | 'unknown'

function truthOf ({ target, from, to, when }: Rule, request: AuthzRequest): Answer {
  const every = (tests: readonly Test[]) => all(tests.map(test => truthOfTest(test, request)))
  return all([every(target), from === undefined ? 'yes' : one(from.map(every)), to === undefined ? 'yes' : one(to.map(every)), every(when)])
}

function all (answers: readonly Answer[]): Answer {
  return answers.includes('no') ? 'no' : answers.includes('unknown') ? 'unknown' : 'yes'
}

function one (answers: readonly Answer[]): Answer {
  return answers.includes('yes') ? 'yes' : answers.includes('unknown') ? 'unknown' : 'no'
}

function truthOfTest ({ fact, any, none }: Test, request: AuthzRequest): Answer {
  const { source, destination, http, tls, time } = request
  const values: Record<string, () => string | undefined | null> = {
    'source.id': () => source.id,
    'source.address': () => source.address,
    'destination.id': () => destination.id ?? null,
    'destination.port': () => destination.port === undefined ? null : `${destination.port}`,
    method: () => http === undefined ? null : http.method,
    path: () => http === undefined ? null : pathOf(http.path),
    host: () => http === undefined ? null : http.host.toLowerCase().replace(/:\d+$/, '').replace(/\.$/, ''),
    header: () => http === undefined ? null : http.headers.get((fact as { header: string }).header),
    'tls.sni': () => tls === undefined ? undefined : tls.sni ?? null,
    time: () => time.toISOString()
  }
  const value = values[fact.name]?.()
  if (value === null) return 'unknown'
  const met = (matches: readonly Match[]) => value !== undefined && matches.some(match => meets(match, value))
  return (any === undefined || met(any)) && !(none !== undefined && met(none)) ? 'yes' : 'no'
}

/** Only plain paths come before this oracle, and some that are not. */
function pathOf (target: string): string | null {
  const path = target.replace(/\?.*$/, '')
  return /\/\/|\/\.|;|\\|%/.test(path) ? null : path
}

function meets (match: Match, value: string): boolean {
  switch (match.kind) {
    case 'exact': return value === match.value
    case 'prefix': return value.slice(0, match.value.length) === match.value
    case 'suffix': return value.length >= match.value.length && value.slice(value.length - match.value.length) === match.value
    case 'present': return value.length > 0
    case 'template': return new RegExp(`^${match.template.text.replaceAll('{**}', '.*').replaceAll('{*}', '[^/]+')}$`).test(value)
    case 'network': return value.startsWith(match.network.text.split('.').slice(0, 2).join('.'))
    case 'selected': return match.ids?.has(value) === true
    default: throw new Error(`the oracle knows no ${match.kind}`)
  }
}
