import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { FactName, RequestFacts } from './facts.ts'
import type { KubernetesWorkload, Match } from './match.ts'
import type { Rule, Test } from './rule.ts'

/** The facts by which rules are found, the most telling first. */
export const dimensions = ['destination.id', 'source.id', 'path', 'destination.port', 'method'] as const satisfies readonly FactName[]
export type Dimension = typeof dimensions[number]

/** Whatever the fact is. */
export const anything = '*'

/**
 * Under which keys a rule is found: all requests that it can be about have one of them. A value is its own key, with `=` before it; what
 * begins with something has the longest part of that which ends with a slash.
 */
export function keysOf (dimension: Dimension, rule: Rule): readonly string[] {
  const { target, from, to, when } = rule
  const within = dimension === 'destination.id' ? [target] : dimension === 'source.id' ? from : to
  const everywhere = keysOfTests(dimension, [...target, ...when])
  if (everywhere !== undefined) return everywhere
  if (within === undefined) return [anything]
  const keys = new Set<string>()
  for (const tests of within) for (const key of keysOfTests(dimension, tests) ?? [anything]) keys.add(key)
  return keys.has(anything) ? [anything] : [...keys]
}

/** `undefined`: the tests say nothing of it that could be looked up. */
function keysOfTests (dimension: Dimension, tests: readonly Test[]): readonly string[] | undefined {
  for (const { fact, any } of tests) {
    if (fact.name !== dimension || any === undefined) continue
    const keys = any.flatMap(match => keysOfMatch(match))
    if (!keys.includes(anything)) return keys
  }
  return undefined
}

function keysOfMatch (match: Match): readonly string[] {
  switch (match.kind) {
    case 'exact': return [`=${match.value}`]
    case 'prefix': return [begin(match.value)]
    case 'template': return [begin(match.template.literal)]
    case 'selected': return [...match.ids ?? []].map(id => `=${id}`)
    case 'workload': return match.workload.domains?.map(domain => keyOfWorkload(domain, match.workload)) ?? [anything]
    case 'suffix':
    case 'present': return match.domains?.map(domain => `spiffe://${domain}/`) ?? [anything]
    default: return [anything]
  }
}

/** As much of the ID as is said exactly. */
function keyOfWorkload (domain: TrustDomain, { namespace, serviceAccount }: KubernetesWorkload): string {
  if (namespace?.kind !== 'exact') return `spiffe://${domain}/`
  const space = `spiffe://${domain}/ns/${namespace.value}/sa/`
  return serviceAccount?.kind === 'exact' ? `=${space}${serviceAccount.value}` : space
}

function begin (value: string): string {
  const slash = value.lastIndexOf('/')
  return slash < 0 ? anything : value.slice(0, slash + 1)
}

/** The keys under which rules about this request can be; `undefined`: nobody knows the fact, so it may be any. */
export function keysFor (dimension: Dimension, facts: RequestFacts): readonly string[] | undefined {
  const values = facts.get({ name: dimension })
  if (values === undefined) return undefined
  const keys = [anything]
  for (const value of values) {
    keys.push(`=${value}`)
    for (let slash = value.indexOf('/'); slash >= 0; slash = value.indexOf('/', slash + 1)) keys.push(value.slice(0, slash + 1))
  }
  return keys
}
