import { trustDomainOf } from '../../spiffe/spiffe-id.ts'
import { describeMatch } from '../explain/describe-match.ts'
import { matches, type Match } from '../policy/match.ts'
import type { PolicySet } from '../policy/policy-set.ts'
import type { Rule, Test } from '../policy/rule.ts'
import { isUnrestricted, reachOf } from './exposure.ts'
import { finding, type Finding } from './finding.ts'
import { directoryOf, type RegisteredEntry } from './registered-entries.ts'

/** What the entries tell about the policies: names of nobody, and workloads that everybody may call. */
export function registered (set: PolicySet, entries: readonly RegisteredEntry[]): readonly Finding[] {
  const ids = [...new Set(entries.map(({ id }) => id))]
  const own: ReadonlySet<string> = new Set([...set.trustDomain === undefined ? ids.map(trustDomainOf) : [set.trustDomain],
    ...set.trustDomainAliases])
  const known: ReadonlySet<string> = new Set(ids)
  const directory = directoryOf(entries)
  // Each is asked for often: the same callers stand in many rules.
  const answers = new Map<string, boolean>()
  const isSomebody = (match: Match) => {
    const text = `${match.kind} ${describeMatch(match)}`
    const answer = answers.get(text) ?? (match.kind === 'exact' ? known.has(match.value)
      : match.kind === 'selected' ? directory(match.selectors).size > 0 : ids.some(id => matches(match, id)))
    answers.set(text, answer)
    return answer
  }
  return [
    ...set.rules.flatMap(rule => [...new Set(namesIn(rule).filter(match => isOurs(match, own) && !isSomebody(match)).map(describeMatch))]
      .map(name => finding('nobody-registered', rule.name, `nobody is registered as ${name}`))),
    ...openWorkloads(set, ids),
    ...unprotected(set, ids)
  ]
}

function namesIn ({ target, from = [], to = [], when }: Rule): Match[] {
  return [...target, ...from.flat(), ...to.flat(), ...when].flatMap(({ fact, any = [], none = [] }) =>
    fact.name === 'source.id' || fact.name === 'destination.id' ? [...any, ...none] : [])
}

/** Of others' workloads the entries say nothing. */
function isOurs (match: Match, own: ReadonlySet<string>): boolean {
  switch (match.kind) {
    case 'exact': case 'prefix': return own.has(/^spiffe:\/\/([^/]+)\//.exec(match.value)?.[1] ?? '')
    case 'workload': return match.workload.domains?.some(domain => own.has(domain)) ?? true
    case 'selected': return true
    default: return false
  }
}

const mostNamed = 5

function openWorkloads ({ rules }: PolicySet, ids: readonly string[]): Finding[] {
  const open = rules.filter(rule => rule.action === 'allow' && !rule.shadow && reachOf(rule) !== 'some' && isUnrestricted(rule) &&
    rule.from?.length !== 0 && rule.to?.length !== 0)
  return open.flatMap(rule => {
    const reached = ids.filter(id => isTarget(rule.target, id))
    if (reached.length === 0) return []
    const whom = reachOf(rule) === 'anybody' ? 'everybody' : 'all of a trust domain'
    return [finding('open-workload', rule.name, `opens ${named(reached)} to ${whom}`)]
  })
}

function unprotected ({ rules, defaultAction }: PolicySet, ids: readonly string[]): Finding[] {
  if (defaultAction !== 'allow') return []
  const allowing = rules.filter(({ action, shadow }) => action === 'allow' && !shadow)
  const free = ids.filter(id => !allowing.some(({ target }) => isTarget(target, id)))
  return free.length === 0 ? [] : [finding('unprotected-workload', undefined, `no allow rule is about ${named(free)}: everybody may call`)]
}

function isTarget (target: readonly Test[], id: string): boolean {
  return target.every(({ fact, any, none }) => fact.name !== 'destination.id' ||
    ((any === undefined || any.some(match => matches(match, id))) && none?.some(match => matches(match, id)) !== true))
}

function named (ids: readonly string[]): string {
  return `${ids.slice(0, mostNamed).join(', ')}${ids.length > mostNamed ? ` and ${ids.length - mostNamed} more` : ''}`
}
