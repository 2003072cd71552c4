import type { FactName } from '../policy/facts.ts'
import type { Match } from '../policy/match.ts'
import type { PolicySet } from '../policy/policy-set.ts'
import type { Rule, Test } from '../policy/rule.ts'
import { finding, type Finding } from './finding.ts'

/** Facts by which a caller is told from others; an address counts, since it says more than nothing. */
const callerFacts: ReadonlySet<FactName> = new Set<FactName>(['source.id', 'source.address', 'source.remoteAddress', 'jwt.principal',
  'claim',
  'jwt.audience', 'jwt.presenter'])
/** Facts that say what a caller may do. */
const operationFacts: ReadonlySet<FactName> = new Set<FactName>(['path', 'method', 'host', 'header', 'destination.port'])

/** Who is let in by a rule, as far as names tell. */
export type Reach = 'anybody' | 'any identity' | 'a trust domain' | 'some'

export function reachOf (rule: Rule): Reach {
  const common = [...rule.target, ...rule.when]
  const alternatives = (rule.from ?? [[]]).map(tests => reachOfTests([...tests, ...common]))
  for (const reach of ['anybody', 'any identity', 'a trust domain'] as const) if (alternatives.includes(reach)) return reach
  return 'some'
}

/** Whether the rule says nothing of what is done: it lets in to everything. */
export function isUnrestricted ({ to, when }: Rule): boolean {
  const says = (tests: readonly Test[]) => tests.some(({ fact, any, none }) => operationFacts.has(fact.name) && (any ?? none) !== undefined)
  return !says(when) && (to === undefined || to.some(tests => !says(tests)))
}

function reachOfTests (tests: readonly Test[]): Reach {
  const about = tests.filter(({ fact, any }) => callerFacts.has(fact.name) && any !== undefined)
  if (about.length === 0) return tests.some(({ fact, none }) => fact.name === 'source.id' && none !== undefined) ? 'some' : 'anybody'
  const reaches = about.map(({ fact, any = [] }) => fact.name !== 'source.id' ? 'some' : any.reduce<Reach>((widest, match) =>
    order.indexOf(reachOfMatch(match)) < order.indexOf(widest) ? reachOfMatch(match) : widest, 'some'))
  return reaches.every(reach => reach !== 'some') ? narrowest(reaches) : 'some'
}

const order: readonly Reach[] = ['anybody', 'any identity', 'a trust domain', 'some']
function narrowest (reaches: readonly Reach[]): Reach { return order.findLast(reach => reaches.includes(reach)) ?? 'some' }

function reachOfMatch (match: Match): Reach {
  if (match.kind === 'present') return match.domains === undefined ? 'any identity' : 'a trust domain'
  if (match.kind === 'prefix') return /^spiffe:\/\/[^/]+\/$/.test(match.value) ? 'a trust domain' : 'some'
  return 'some'
}

/** `allow` rules that let in more than somebody who was named; settings that do. */
export function exposure ({ rules, defaultAction, trustDomain }: PolicySet): readonly Finding[] {
  const findings: Finding[] = []
  if (defaultAction === 'allow') findings.push(finding('default-allow', undefined, 'what no rule is about is allowed'))
  for (const rule of rules) {
    if (rule.action !== 'allow' || rule.from?.length === 0 || rule.to?.length === 0) continue
    const reach = reachOf(rule)
    const everything = isUnrestricted(rule) ? ', to everything' : ''
    if (reach === 'anybody') findings.push(finding('reachable-by-anybody', rule.name, `lets in callers without an identity${everything}`))
    else if (reach !== 'some' && isUnrestricted(rule)) {
      findings.push(finding('identity-is-no-permission', rule.name, `lets in ${reach === 'any identity' ? 'whoever has an identity'
        : 'a whole trust domain'}, to everything: that somebody is known does not say that he may`))
    } else if (reach !== 'some') {
      const whose = trustDomain === undefined ? '' : domainsOf(rule).some(domain => domain !== trustDomain) ? ', that of others' : ''
      findings.push(finding('whole-trust-domain', rule.name, `lets in a whole trust domain${whose}`))
    }
  }
  return findings
}

function domainsOf ({ from = [], target, when }: Rule): string[] {
  return [...from.flat(), ...target, ...when].filter(({ fact }) => fact.name === 'source.id').flatMap(({ any = [] }) => any.flatMap(match =>
    match.kind === 'prefix' ? [/^spiffe:\/\/([^/]+)\/$/.exec(match.value)?.[1] ?? []].flat() : []))
}
