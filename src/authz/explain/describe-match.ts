import type { Fact } from '../policy/facts.ts'
import type { Match } from '../policy/match.ts'
import type { Test } from '../policy/rule.ts'

/** `header x-env`, `claim realm.roles`, else the fact's own name. */
function describeFact (fact: Fact): string {
  if (fact.name === 'header') return `header ${fact.header}`
  return fact.name === 'claim' ? `claim ${fact.path.join('.')}` : fact.name
}

/** `path is one of /a, /b* and none of /b/c` */
export function describeTest ({ fact, any, none }: Test): string {
  const parts = [
    ...any === undefined ? [] : [`is ${describeMatches(any)}`],
    ...none === undefined ? [] : [`is not ${describeMatches(none)}`]
  ]
  return `${describeFact(fact)} ${parts.join(' and ')}`
}

const mostShown = 5

function describeMatches (matches: readonly Match[]): string {
  const shown = matches.slice(0, mostShown).map(describeMatch)
  const more = matches.length > mostShown ? [`${matches.length - mostShown} more`] : []
  return matches.length === 1 ? shown.join('') : `one of ${[...shown, ...more].join(', ')}`
}

/** As policies write it. */
export function describeMatch (match: Match): string {
  switch (match.kind) {
    case 'exact': return match.value
    case 'prefix': return `${match.value}*`
    case 'suffix': return `*${match.value}${domainsOf(match.domains)}`
    case 'present': return match.domains === undefined ? 'anything' : `any ID${domainsOf(match.domains)}`
    case 'template': return match.template.text
    case 'network': return match.network.text
    case 'atLeast': return `at least ${match.value}`
    case 'selected': return `an ID of an entry with ${match.selectors.join(', ')}`
    case 'workload': {
      const { domains, namespace, serviceAccount } = match.workload
      const part = (one: Match | undefined) => one === undefined ? '*' : describeMatch(one)
      return `spiffe://${domains?.join('|') ?? '*'}/ns/${part(namespace)}/sa/${part(serviceAccount)}`
    }
    default: return describeWindow(match.window.spec)
  }
}

function domainsOf (domains: readonly string[] | undefined): string { return domains === undefined ? '' : ` of ${domains.join(', ')}` }

function describeWindow ({ notBefore, notAfter, days, from, to, timeZone }: Extract<Match, { kind: 'window' }>['window']['spec']): string {
  const clock = (minutes: number) => `${String(Math.floor(minutes / 60)).padStart(2, '0')}:${String(minutes % 60).padStart(2, '0')}`
  const parts = [
    ...notBefore === undefined ? [] : [`from ${notBefore.toISOString()}`],
    ...notAfter === undefined ? [] : [`before ${notAfter.toISOString()}`],
    ...days === undefined ? [] : [`on ${days.join(', ')}`],
    ...from === undefined && to === undefined ? [] : [`${clock(from ?? 0)} to ${clock(to ?? 1_440)}`],
    ...days ?? from ?? to ? [timeZone] : []
  ]
  return `a time ${parts.join(' ')}`
}
