import type { Match } from '../policy/match.ts'
import { matches } from '../policy/match.ts'
import { windowCovers, windowsDisjoint } from './window-relations.ts'

/** Whether all values that `narrow` matches, `wide` matches too. `false` also when that is not plain to see. */
export function covers (wide: Match, narrow: Match): boolean {
  if (narrow.kind === 'exact') return wide.kind !== 'selected' && matches(wide, narrow.value)
  const begin = beginOf(narrow)
  switch (wide.kind) {
    case 'prefix': return beginsOf(narrow).every(one => one.startsWith(wide.value))
    case 'suffix': return narrow.kind === 'suffix' && narrow.value.endsWith(wide.value) && isWithin(wide.domains, narrow)
    // What has a begin or an end that is not empty is not empty.
    case 'present': return (begin !== '' || (narrow.kind === 'suffix' && narrow.value !== '') || narrow.kind === 'present') &&
      isWithin(wide.domains, narrow)
    case 'template': return asPrefix(wide) !== undefined
      ? beginsOf(narrow).every(one => one.startsWith(asPrefix(wide) as string))
      : narrow.kind === 'template' && narrow.template.text === wide.template.text
    case 'network': return narrow.kind === 'network' && networkCovers(wide.network.text, narrow.network.text, wide)
    case 'atLeast': return narrow.kind === 'atLeast' && wide.order.indexOf(wide.value) <= narrow.order.indexOf(narrow.value)
    case 'selected': return narrow.kind === 'selected' && wide.selectors.every(selector => narrow.selectors.includes(selector))
    case 'window': return narrow.kind === 'window' && windowCovers(wide.window.spec, narrow.window.spec)
    case 'workload': return narrow.kind === 'workload' && workloadCovers(wide.workload, narrow.workload)
    default: return false
  }
}

/** Whether no value can match both. `false` also when that is not plain to see. */
export function disjoint (a: Match, b: Match): boolean {
  if (a.kind === 'selected' || b.kind === 'selected') return false
  if (a.kind === 'exact') return !matches(b, a.value)
  if (b.kind === 'exact') return !matches(a, b.value)
  if (a.kind === 'window' && b.kind === 'window') return windowsDisjoint(a.window.spec, b.window.spec)
  if (a.kind === 'network' && b.kind === 'network') return networksDisjoint(a, b)
  if (a.kind === 'suffix' && b.kind === 'suffix' && !a.value.endsWith(b.value) && !b.value.endsWith(a.value)) return true
  if (a.kind === 'template' && b.kind === 'template' && templatesDisjoint(a.template.text, b.template.text)) return true
  return beginsOf(a).every(one => beginsOf(b).every(other => !one.startsWith(other) && !other.startsWith(one)))
}

type Of<Kind extends Match['kind']> = Extract<Match, { kind: Kind }>

/** What all values of a match begin with, one of several; the empty text where nothing is known. */
function beginsOf (match: Match): readonly string[] {
  switch (match.kind) {
    case 'suffix': case 'present': return match.domains?.map(domain => `spiffe://${domain}/`) ?? ['']
    case 'workload': return match.workload.domains?.map(domain => `spiffe://${domain}/`) ?? ['spiffe://']
    default: return [beginOf(match)]
  }
}

function beginOf (match: Match): string {
  switch (match.kind) {
    case 'exact': case 'prefix': return match.value
    case 'template': return match.template.literal
    case 'workload': return 'spiffe://'
    default: return ''
  }
}

/** `/a/{**}` is nothing but a prefix. */
function asPrefix ({ template: { text, literal } }: Of<'template'>): string | undefined {
  return text === `${literal}{**}` ? literal : undefined
}

function isWithin (domains: readonly string[] | undefined, narrow: Match): boolean {
  return domains === undefined || beginsOf(narrow).every(begin => domains.some(domain => begin.startsWith(`spiffe://${domain}/`)))
}

function workloadCovers (wide: Of<'workload'>['workload'], narrow: Of<'workload'>['workload']): boolean {
  const part = (a: Match | undefined, b: Match | undefined) => a === undefined || (b !== undefined && covers(a, b))
  return (wide.domains === undefined || narrow.domains?.every(domain => wide.domains?.includes(domain)) === true) &&
    part(wide.namespace, narrow.namespace) && part(wide.serviceAccount, narrow.serviceAccount)
}

function networkCovers (wide: string, narrow: string, { network }: Of<'network'>): boolean {
  const [, wideBits] = wide.split('/')
  const [base = '', bits] = narrow.split('/')
  return isSameFamily(wide, narrow) && Number(wideBits) <= Number(bits) &&
    network.addresses.check(base, base.includes(':') ? 'ipv6' : 'ipv4')
}

/** Of one family, networks are within each other or apart. */
function networksDisjoint (a: Of<'network'>, b: Of<'network'>): boolean {
  const [first, second] = [a.network.text, b.network.text]
  return isSameFamily(first, second) && !networkCovers(first, second, a) && !networkCovers(second, first, b)
}

function isSameFamily (a: string, b: string): boolean { return a.includes(':') === b.includes(':') }

function templatesDisjoint (a: string, b: string): boolean {
  const [first, second] = [a.split('/'), b.split('/')]
  for (let i = 0; i < Math.max(first.length, second.length); i++) {
    const [one, other] = [first[i], second[i]]
    if (one === '{**}' || other === '{**}') return false
    if (one === undefined || other === undefined) return true
    if (one !== '{*}' && other !== '{*}' && one !== other) return true
  }
  return false
}
