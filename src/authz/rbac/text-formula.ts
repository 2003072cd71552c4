import type { Match } from '../policy/match.ts'
import { all, any, type Formula, type Subject } from './formula.ts'
import { literal } from './re2-text.ts'

/** Bytes, whether they are UTF-8 or not. */
const notEmpty = String.raw`\C+`

/** Of a subject whose text Envoy has as the engine has it. */
export function textFormula (subject: Subject, match: Match): Formula {
  switch (match.kind) {
    case 'exact': return match.value === '' ? { unsayable: 'an empty text' } : { subject, text: { exact: match.value } }
    case 'prefix': return { subject, text: { prefix: match.value } }
    case 'suffix': return all([ofDomains(subject, match.domains), { subject, text: { suffix: match.value } }])
    case 'present': return all([ofDomains(subject, match.domains), { subject, text: { regex: notEmpty } }])
    case 'selected': return match.ids === undefined ? { unsayable: 'selectors that nobody has resolved' }
      : any([...match.ids].toSorted().map(exact => ({ subject, text: { exact } })))
    case 'workload': return workloadFormula(subject, match)
    default: return { unsayable: `a text that is ${match.kind}` }
  }
}

function ofDomains (subject: Subject, domains: readonly string[] | undefined): Formula {
  return domains === undefined || any(domains.map(domain => ({ subject, text: { prefix: `spiffe://${domain}/` } })))
}

function workloadFormula (subject: Subject, { workload: { domains, namespace, serviceAccount } }: Match & { kind: 'workload' }): Formula {
  const parts = [namespace, serviceAccount].map(match => match === undefined ? '[^/]+' : segmentOf(match))
  const [ns, sa] = parts
  if (ns === undefined || sa === undefined) return { unsayable: 'such a name of a namespace or service account' }
  const exact = [namespace, serviceAccount].map(match => match?.kind === 'exact' ? match.value : undefined)
  if (domains === undefined) return { subject, text: { regex: `spiffe://[^/]+/ns/${ns}/sa/${sa}` } }
  return any(domains.map((domain): Formula => {
    if (exact[0] !== undefined && exact[1] !== undefined) return { subject, text: { exact: `spiffe://${domain}/ns/${exact[0]}/sa/${exact[1]}` } }
    return { subject, text: { regex: `spiffe://${literal(domain)}/ns/${ns}/sa/${sa}` } }
  }))
}

/** Within one segment, which is never empty. */
function segmentOf (match: Match): string | undefined {
  switch (match.kind) {
    case 'exact': return literal(match.value)
    case 'prefix': return `${literal(match.value)}[^/]*`
    case 'suffix': return match.domains === undefined ? `[^/]*${literal(match.value)}` : undefined
    case 'present': return match.domains === undefined ? '[^/]+' : undefined
    default: return undefined
  }
}
