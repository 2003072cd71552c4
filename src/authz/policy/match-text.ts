import { parseSpiffeId, pathOf } from '../../spiffe/spiffe-id.ts'
import { parseTrustDomain } from '../../spiffe/trust-domain.ts'
import type { Match } from './match.ts'
import { PathTemplate } from './path-template.ts'

/** Of one value in a policy. */
export const longestValue = 2_048

/** Reads `abc`, `abc*`, `*abc` or `*` (any value that is not empty). @throws {Error} saying the rule */
export function parseTextMatch (text: string): Match {
  if (text === '') throw new Error('must not be empty')
  if (text.length > longestValue) throw new Error(`must not be longer than ${longestValue} characters`)
  if (text === '*') return { kind: 'present' }
  const star = text.indexOf('*')
  if (star < 0) return { kind: 'exact', value: text }
  if (star !== text.lastIndexOf('*') || (star > 0 && star < text.length - 1)) {
    throw new Error('a star stands for the begin or the end of a value, once; it cannot be in its middle')
  }
  return star === 0 ? { kind: 'suffix', value: text.slice(1) } : { kind: 'prefix', value: text.slice(0, -1) }
}

/** Reads a SPIFFE ID, `spiffe://td/path/*` (all below, by whole segments) or `spiffe://td/*`. @throws {Error} saying the rule */
export function parseIdMatch (text: string): Match {
  if (text.endsWith('/*')) {
    parseSpiffeId(text.slice(0, -2))
    return { kind: 'prefix', value: text.slice(0, -1) }
  }
  const id = parseSpiffeId(text)
  if (pathOf(id) === '') throw new Error(`${JSON.stringify(text)} is no workload: write ${text}/* for all of the trust domain`)
  return { kind: 'exact', value: id }
}

/** All IDs of a trust domain. @throws {Error} saying the rule */
export function parseDomainMatch (text: string): Match {
  return { kind: 'prefix', value: `spiffe://${parseTrustDomain(text)}/` }
}

/** Reads a path, `/prefix*`, `*suffix`, `*` or a template with `{*}` and `{**}`. @throws {Error} saying the rule */
export function parsePathMatch (text: string): Match {
  if (/[?#]/.test(text)) throw new Error('a path has no query and no fragment')
  if (text.includes('{')) {
    const template = PathTemplate.parse(text)
    if (template === undefined) throw new Error('a template has {*} for one segment and a last {**} for any number, as whole segments')
    return { kind: 'template', template }
  }
  const match = parseTextMatch(text)
  if ((match.kind === 'exact' || match.kind === 'prefix') && !match.value.startsWith('/')) throw new Error('a path begins with a slash')
  return match
}
