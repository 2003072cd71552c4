import type { Match } from '../policy/match.ts'
import { any, type Formula } from './formula.ts'
import { literalOfAnyCase } from './re2-text.ts'

/** A port, or what stands in its place: after the last bracket and the colon that follows, where `regularHost` cuts. */
const port = String.raw`(:[^\]]*)?`
const beforeTail = String.raw`(.*\])?[^:\]]*`

/** What is asked of a regular host (`regularHost`), asked of `:authority` as it came. */
function hostFormula (match: Match): Formula {
  const regex = regexOf(match)
  return regex === undefined ? { unsayable: `a host that is ${match.kind}` } : regex === false ? false
    : { subject: { header: ':authority' }, text: { regex } }
}

export function hostFormulas (matches: readonly Match[]): Formula { return any(matches.map(hostFormula)) }

/** What is asked of an authority in lower case, with whatever port it came with, asked of it as it came. */
function authorityFormula (match: Match): Formula {
  const regex = !('value' in match) || match.value === match.value.toLowerCase() ? authorityRegex(match) : false
  return regex === undefined ? { unsayable: `a host that is ${match.kind}` } : regex === false ? false
    : { subject: { header: ':authority' }, text: { regex } }
}

export function authorityFormulas (matches: readonly Match[]): Formula { return any(matches.map(authorityFormula)) }

function authorityRegex (match: Match): string | undefined {
  switch (match.kind) {
    case 'exact': return literalOfAnyCase(match.value)
    case 'prefix': return String.raw`${literalOfAnyCase(match.value)}\C*`
    case 'suffix': return match.domains === undefined ? String.raw`\C*${literalOfAnyCase(match.value)}` : undefined
    case 'present': return match.domains === undefined ? String.raw`\C+` : undefined
    default: return undefined
  }
}

/** `false`: no host is so; `undefined`: no such thing is said of hosts. */
function regexOf (match: Match): string | false | undefined {
  switch (match.kind) {
    case 'exact': return endsIn(match.value) && (match.value.includes(']') || !match.value.includes(':'))
      ? `${literalOfAnyCase(match.value)}${finalDot(match.value)}${port}` : false
    case 'prefix': return beginning(match.value)
    case 'suffix': return match.domains === undefined ? ending(match.value) : undefined
    case 'present': return match.domains === undefined ? String.raw`.*\].*|\.?[^.:\]][^\]]*|\.\.[^\]]*` : undefined
    default: return undefined
  }
}

function ending (value: string): string | false {
  if (!endsIn(value)) return false
  return `${value.includes(']') ? '.*' : beforeTail}${literalOfAnyCase(value)}${finalDot(value)}${port}`
}

/** Whether a host can end so: a colon outside of brackets would begin a port. */
function endsIn (value: string): boolean { return !value.slice(value.lastIndexOf(']') + 1).includes(':') }

/** One is taken off: a text that ends with a dot needs another one behind it. */
function finalDot (value: string): string { return value.endsWith('.') ? String.raw`\.` : String.raw`\.?` }

function beginning (value: string): string {
  const begin = literalOfAnyCase(value)
  // Within brackets a colon is the address's, if the bracket closes.
  if (!endsIn(value)) return String.raw`${begin}.*\].*`
  return value.endsWith('.') ? String.raw`${begin}([^:].*|:.*\].*)` : `${begin}.*`
}
