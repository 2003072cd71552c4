import { isIP } from 'node:net'
import type { Fact } from '../../../src/authz/policy/facts.ts'
import type { Rule, Test } from '../../../src/authz/policy/rule.ts'
import { type TimeWindowSpec, weekDays } from '../../../src/authz/policy/time-window.ts'
import type { Match } from '../../../src/authz/policy/match.ts'
import type { PolicySet } from '../../../src/authz/policy/policy-set.ts'
import type { AuthzRequest } from '../../../src/authz/policy/request.ts'

/**
 * Decides by walking every rule: slow, plain, and written from docs/policies.md without the engine's code.
 * @returns `allow` or `deny`, and the rule or reason that decided
 */
export function judge (set: PolicySet, request: AuthzRequest): string {
  const { id } = request.source
  if (request.source.invalidId !== undefined) return 'deny federation'
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

/** The rules that mark the request, and those for which somebody else is asked, `RULE PROVIDER`. */
export function marksOf (set: PolicySet, request: AuthzRequest): { audits: string[], asks: string[] } {
  const rules = set.rules.filter(({ shadow }) => !shadow)
  return {
    audits: rules.filter(rule => rule.action === 'audit' && truthOf(rule, request) === 'yes').map(({ name }) => name),
    asks: rules.filter(rule => rule.action === 'custom' && truthOf(rule, request) !== 'no').map(rule => `${rule.name} ${rule.provider}`)
  }
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
  const values = valuesOf(fact, request)
  if (values === null) return 'unknown'
  const met = (matches: readonly Match[]) => values.some(value => matches.some(match => meets(match, value)))
  return (any === undefined || met(any)) && !(none !== undefined && met(none)) ? 'yes' : 'no'
}

/** `null`: nobody knows. */
function valuesOf (fact: Fact, { source, destination, http, tls, time }: AuthzRequest): readonly string[] | null {
  const known = (value: string | undefined) => value === undefined ? null : [value]
  const perhaps = (value: string | undefined) => value === undefined ? [] : [value]
  const claim = (path: readonly string[]) => {
    let value: any = http?.claims
    for (const name of path) {
      const isObject = typeof value === 'object' && value !== null && !Array.isArray(value)
      value = isObject && Object.keys(value).includes(name) ? value[name] : undefined
    }
    return value === undefined || Array.isArray(value) || typeof value !== 'object' ? [value ?? []].flat().map(String) : []
  }
  if (fact.name === 'source.id') return perhaps(source.id)
  if (fact.name === 'source.address') return known(source.address)
  if (fact.name === 'source.remoteAddress') return known(source.remoteAddress ?? source.address)
  if (fact.name === 'destination.id') return known(destination.id)
  if (fact.name === 'destination.address') return known(destination.address)
  if (fact.name === 'destination.port') return known(destination.port === undefined ? undefined : `${destination.port}`)
  if (fact.name === 'tls.version') return tls === undefined ? [] : known(tls.version)
  if (fact.name === 'tls.sni') return tls === undefined || tls.sni === '' ? [] : known(tls.sni)
  if (fact.name === 'time') return [time.toISOString()]
  if (http === undefined) return null
  switch (fact.name) {
    case 'method': return [http.method]
    case 'path': return known(pathOf(http.path) ?? undefined)
    case 'host': return [http.host.toLowerCase().replace(/^(\[.*\]|[^:]*).*$/s, '$1').replace(/\.$/, '')]
    case 'authority': return [http.host.toLowerCase()]
    case 'header': return perhaps(http.headers.get(fact.header))
    case 'claim': return http.severalTokens === true ? null
      : claim(fact.path).flatMap(value => fact.spaceDelimited === true ? value.split(/ +/).filter(Boolean) : [value])
    case 'jwt.audience': return http.severalTokens === true ? null : claim(['aud'])
    case 'jwt.presenter': return http.severalTokens === true ? null : claim(['azp'])
    case 'jwt.principal': return http.severalTokens === true ? null
      : claim(['sub']).map(subject => `${claim(['iss'])[0] ?? ''}/${subject}`)
    default: throw new Error('the oracle knows no such fact')
  }
}

/** Only plain paths come before this oracle, and some that are not. */
function pathOf (target: string): string | null {
  const path = target.replace(/\?.*$/, '')
  return /^[^/]|^$|\/\/|\/\.{1,2}(\/|$)|;|\\|%/.test(path) ? null : path
}

function meets (match: Match, value: string): boolean {
  switch (match.kind) {
    case 'exact': return value === match.value
    case 'prefix': return value.slice(0, match.value.length) === match.value
    case 'suffix': return value.length >= match.value.length && value.slice(value.length - match.value.length) === match.value &&
      isOfOne(match.domains, value)
    case 'present': return value.length > 0 && isOfOne(match.domains, value)
    case 'workload': {
      const { domains, namespace, serviceAccount } = match.workload
      const [, , , ns, space, sa, account, ...rest] = value.split('/')
      return ns === 'ns' && sa === 'sa' && space !== undefined && account !== undefined && rest.length === 0 && isOfOne(domains, value) &&
        (namespace === undefined || meets(namespace, space)) && (serviceAccount === undefined || meets(serviceAccount, account))
    }
    case 'template': return new RegExp(`^${quoted(match.template.text).replaceAll('{**}', '.*').replaceAll('{*}', '[^/]+')}$`).test(value)
    case 'network': return isWithin(match.network.text, value)
    case 'selected': return match.ids?.has(value) === true
    case 'atLeast': return match.order.slice(match.order.indexOf(match.value)).includes(value)
    default: return isThen(match.window.spec, value)
  }
}

/** @param instant in ISO 8601, whose minutes and days are those of UTC */
function isThen ({ notBefore, notAfter, days, from, to, timeZone }: TimeWindowSpec, instant: string): boolean {
  if (timeZone !== 'UTC') throw new Error('the oracle knows no time zones')
  if (notBefore !== undefined && instant < notBefore.toISOString()) return false
  if (notAfter !== undefined && instant >= notAfter.toISOString()) return false
  const [minute, today] = [Number(instant.slice(11, 13)) * 60 + Number(instant.slice(14, 16)), new Date(instant).getUTCDay()]
  // Each evening's window and the one that yesterday's may still be.
  const begins = from ?? 0
  const ends = to === undefined ? 1_440 : to < begins ? to + 1_440 : to
  return [[today, minute], [(today + 6) % 7, minute + 1_440]].some(([day = 0, at = 0]) =>
    at >= begins && at < ends && (days === undefined || days.includes(weekDays[day] ?? 'sun')))
}

function quoted (text: string): string { return text.replaceAll(/[.+^$()|[\]\\]/g, String.raw`\$&`) }

function isOfOne (domains: readonly string[] | undefined, id: string): boolean {
  return domains === undefined || domains.includes(id.split('/')[2] ?? '')
}

/** By the bits of both, written out. */
function isWithin (network: string, address: string): boolean {
  if (isIP(address) === 0) return false
  const [base = '', length] = network.split('/')
  const left = bitsOf(base)
  // What is an IPv4 address in IPv6's form is both.
  return [address, address.replace(/^::ffff:(?=.*\.)/, '')].map(bitsOf).some(right =>
    left.length === right.length && left.slice(0, Number(length)) === right.slice(0, Number(length)))
}

function bitsOf (address: string): string {
  const bits = (number: string, base: number, width: number) => Number.parseInt(number, base).toString(2).padStart(width, '0')
  const [, start, dotted] = /^(.*:)([\d.]+\.\d+)$/.exec(address) ?? []
  if (start !== undefined && dotted !== undefined) {
    const words = dotted.split('.').map(byte => Number(byte).toString(16).padStart(2, '0')).join('').match(/.{4}/g) ?? []
    return bitsOf(start + words.join(':'))
  }
  if (!address.includes(':')) return address.split('.').map(byte => bits(byte, 10, 8)).join('')
  const [head = [], tail] = address.split('::').map(half => half.split(':').filter(Boolean))
  const gap = tail === undefined ? [] : Array.from({ length: 8 - head.length - tail.length }, () => '0')
  return [...head, ...gap, ...tail ?? []].map(word => bits(word, 16, 16)).join('')
}
