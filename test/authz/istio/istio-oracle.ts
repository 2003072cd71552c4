import type { AuthzRequest } from '../../../src/authz/policy/request.ts'
import { own, pods, type RawPolicy } from './mesh.ts'

/**
 * Decides by the documents as they are written, without anything of `src/`: each sentence of docs/istio-policies.md as plainly as it can
 * be said. `undefined` is what cannot be seen on plain TCP.
 * @returns `allow` or `deny`, and the rule or reason
 */
export function judgeIstio (policies: readonly RawPolicy[], request: AuthzRequest): string {
  const about = policies.filter(policy => policy.metadata.annotations?.['istio.io/dry-run'] !== 'true' && isAbout(policy, request))
  const named = (action: string) => about.filter(({ spec }) => (spec['action'] ?? 'ALLOW') === action)
  const first = (action: 'DENY' | 'ALLOW') => named(action).flatMap(policy => (policy.spec['rules'] ?? []).flatMap((rule: Raw, i: number) =>
    ruleMatches(rule, policy, request) ? [`${policy.metadata.namespace}/${policy.metadata.name}/${i}`] : []))[0]
  const denied = first('DENY')
  if (denied !== undefined) return `deny ${denied}`
  const allowed = first('ALLOW')
  if (allowed !== undefined) return `allow ${allowed}`
  return named('ALLOW').length > 0 ? 'deny no-rule-allows' : 'allow default'
}

type Raw = Readonly<Record<string, any>>
type Seen = boolean | undefined

function isAbout ({ metadata, spec }: RawPolicy, { destination }: AuthzRequest): boolean {
  const [, , domain, ns, namespace, sa, account] = (destination.id ?? '').split('/')
  const isThere = own.includes(domain ?? '') && ns === 'ns' && sa === 'sa' && namespace === metadata.namespace
  if (metadata.namespace !== 'istio-system' && !isThere) return false
  const labels = domain === own[0] ? pods[`${namespace}/${account}`] ?? {} : {}
  return Object.entries(spec['selector']?.matchLabels ?? {}).every(([key, value]) => labels[key] === value)
}

function ruleMatches (rule: Raw, policy: RawPolicy, request: AuthzRequest): boolean {
  const isAllow = (policy.spec['action'] ?? 'ALLOW') === 'ALLOW'
  const parts: Seen[][] = [
    ...(rule['from'] ?? [{ source: {} }]).map(({ source }: Raw) => [0, sourceSeen(source, policy, isAllow, request)]),
    ...(rule['to'] ?? [{ operation: {} }]).map(({ operation }: Raw) => [1, operationSeen(operation, request)]),
    ...(rule['when'] ?? []).map((condition: Raw, i: number) => [2 + i, conditionSeen(condition, policy, isAllow, request)])
  ]
  // On TCP an ALLOW rule with a part of HTTP is no rule; in a DENY rule that part is met.
  if (isAllow && usesHttp(rule) && request.http === undefined) return false
  const groups = new Map<unknown, Seen[]>()
  for (const [group, seen] of parts) groups.set(group, [...groups.get(group) ?? [], seen])
  return [...groups.values()].every(alternatives => alternatives.some(seen => seen ?? !isAllow))
}

function usesHttp (rule: Raw): boolean {
  const keys = [...(rule['from'] ?? []).flatMap(({ source }: Raw) => Object.keys(source)),
    ...(rule['to'] ?? []).flatMap(({ operation }: Raw) => Object.keys(operation)), ...(rule['when'] ?? []).map(({ key }: Raw) => key)]
  return keys.some((key: string) => /^(not)?(hosts|methods|paths|requestPrincipals)$/i.test(key) || key.startsWith('request.'))
}

/** All at once: one that is not met decides, even beside one that cannot be seen. */
function all (seen: readonly Seen[]): Seen { return seen.includes(false) ? false : seen.includes(undefined) ? undefined : true }

function lists (values: readonly string[] | undefined, meets: (value: string) => boolean | undefined): Seen {
  if (values === undefined) return true
  const seen = values.map(meets)
  return seen.includes(true) ? true : seen.includes(undefined) ? undefined : false
}

const not = (seen: Seen): Seen => seen === undefined ? undefined : !seen

function pair (raw: Raw, key: string, meets: (value: string, lets: boolean) => Seen, isAllow: boolean): Seen[] {
  const no = raw[`not${key[0]?.toUpperCase()}${key.slice(1)}`]
  return [lists(raw[key], value => meets(value, isAllow)), no === undefined ? true : not(lists(no, value => meets(value, !isAllow)))]
}

function sourceSeen (source: Raw, policy: RawPolicy, isAllow: boolean, request: AuthzRequest): Seen {
  const { address = '', remoteAddress = address } = request.source
  return all([
    ...pair(source, 'principals', (value, lets) => principalMet(value, lets, request), isAllow),
    ...pair(source, 'namespaces', (value, lets) => nameMet(value, undefined, lets, request), isAllow),
    ...pair(source, 'serviceAccounts', (value, lets) => accountMet(value, policy, lets, request), isAllow),
    ...pair(source, 'requestPrincipals', value => tokenMet(value, request), isAllow),
    ...pair(source, 'ipBlocks', value => inBlock(value, address), isAllow),
    ...pair(source, 'remoteIpBlocks', value => inBlock(value, remoteAddress), isAllow)
  ])
}

function operationSeen (operation: Raw, { destination, http }: AuthzRequest): Seen {
  const path = http?.path.replace(/\?.*/, '')
  const seen = (value: string | undefined) => (pattern: string): Seen => value === undefined ? undefined : textMet(pattern, value)
  return all([
    ...pair(operation, 'ports', seen(`${destination.port}`), true),
    ...pair(operation, 'methods', seen(http?.method), true),
    ...pair(operation, 'hosts', pattern => seen(http?.host.toLowerCase())(pattern.toLowerCase()), true),
    ...pair(operation, 'paths', pattern => path === undefined || /\/\/|\/\.\.|%2f/i.test(path) ? undefined
      : pattern.includes('{') ? templateMet(pattern, path) : textMet(pattern, path), true)
  ])
}

function conditionSeen (condition: Raw, policy: RawPolicy, isAllow: boolean, request: AuthzRequest): Seen {
  const { source, destination, http, tls } = request
  const key: string = condition['key']
  const one = (meets: (value: string, lets: boolean) => Seen): Seen => all(pair(condition, 'values', meets, isAllow))
  const among = (values: readonly unknown[] | undefined) =>
    one(pattern => values === undefined ? undefined : values.some(value => textMet(pattern, String(value))))
  switch (key) {
    case 'source.principal': return one((value, lets) => principalMet(value, lets, request))
    case 'source.namespace': return one((value, lets) => nameMet(value, undefined, lets, request))
    case 'source.serviceAccount': return one((value, lets) => accountMet(value, policy, lets, request))
    case 'request.auth.principal': return one(value => tokenMet(value, request))
    case 'source.ip': return one(value => inBlock(value, source.address ?? ''))
    case 'remote.ip': return one(value => inBlock(value, source.remoteAddress ?? source.address ?? ''))
    case 'destination.ip': return one(value => inBlock(value, destination.address ?? ''))
    case 'destination.port': return one(value => value === `${destination.port}`)
    case 'connection.sni': return among([tls?.sni ?? ''])
    case 'request.auth.audiences': return among(http === undefined ? undefined : [http.claims?.['aud'] ?? []].flat())
    case 'request.auth.presenter': return among(http === undefined ? undefined : [http.claims?.['azp'] ?? []].flat())
  }
  const names = [...key.matchAll(/\[([^\]]+)\]/g)].map(([, name]) => name as string)
  if (key.startsWith('request.headers')) {
    const value = http?.headers.get(names[0]?.toLowerCase() ?? '')
    return among(http === undefined ? undefined : value === undefined ? [] : [value])
  }
  const claim = names.reduce<any>((value, name) => value?.[name], http?.claims)
  const words = key === 'request.auth.claims[scope]' && typeof claim === 'string' ? claim.split(' ') : [claim ?? []].flat()
  return among(http === undefined ? undefined : words)
}

/** A pattern that leaves the trust domain open means the own ones where it lets in or spares, every one where it refuses. */
function principalMet (pattern: string, lets: boolean, { source }: AuthzRequest): boolean {
  const id = source.id?.slice('spiffe://'.length)
  if (id === undefined) return false
  const [domain = '', ...rest] = id.split('/')
  const [wanted = '', ...path] = pattern.split('/')
  const isOwn = own.includes(domain)
  // A star in the place of the trust domain that some own name meets stands for all of them.
  if (wanted !== '*' && wanted.includes('*') && (path.length === 4 || (path.length === 0 && !pattern.startsWith('*')))) {
    if (isOwn && own.some(name => textMet(wanted, name)) && (path.length === 0 || path.join('/') === rest.join('/'))) return true
  }
  if (wanted.includes('*')) return textMet(pattern, id) && (!lets || isOwn)
  const names = own.includes(wanted) || wanted === 'cluster.local' ? own : [wanted]
  return names.some(name => textMet([name, ...path].join('/'), id))
}

function nameMet (namespace: string, account: string | undefined, lets: boolean, { source }: AuthzRequest): boolean {
  const [, domain = '', ns = '', sa = ''] = /^spiffe:\/\/([^/]+)\/ns\/([^/]+)\/sa\/([^/]+)$/.exec(source.id ?? '') ?? []
  return domain !== '' && textMet(namespace, ns) && (account === undefined || sa === account) && (!lets || own.includes(domain))
}

function accountMet (value: string, { metadata }: RawPolicy, lets: boolean, request: AuthzRequest): boolean {
  const [namespace = '', account = ''] = value.includes('/') ? value.split('/') : [metadata.namespace, value]
  return nameMet(namespace, account, lets, request)
}

function tokenMet (pattern: string, { http }: AuthzRequest): Seen {
  if (http === undefined) return undefined
  const { iss, sub } = http.claims ?? {}
  if (typeof iss !== 'string' || typeof sub !== 'string') return false
  const cut = pattern.lastIndexOf('/')
  if (pattern === '*') return iss !== '' && sub !== ''
  if (cut < 0) return pattern.startsWith('*') ? textMet(pattern, sub) : textMet(pattern, iss)
  return textMet(pattern.slice(0, cut), iss) && textMet(pattern.slice(cut + 1), sub)
}

function textMet (pattern: string, value: string): boolean {
  if (pattern === '*') return value !== ''
  if (pattern.startsWith('*')) return value.endsWith(pattern.slice(1))
  return pattern.endsWith('*') ? value.startsWith(pattern.slice(0, -1)) : value === pattern
}

function templateMet (template: string, path: string): boolean {
  const operators: Readonly<Record<string, string>> = { '{*}': '[^/]+', '{**}': '.*' }
  const source = template.split(/(\{\*\*?\})/).map(part => operators[part] ?? part.replaceAll('.', '[.]'))
  return new RegExp(`^${source.join('')}$`).test(path)
}

/** IPv4, as numbers. */
function inBlock (block: string, address: string): boolean {
  const [base = '', bits = '32'] = block.split('/')
  const number = (text: string) => text.split('.').reduce((sum, byte) => sum * 256 + Number(byte), 0)
  const size = 2 ** (32 - Number(bits))
  return Math.floor(number(base) / size) === Math.floor(number(address) / size)
}
