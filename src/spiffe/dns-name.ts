import { domainToASCII, domainToUnicode } from 'node:url'
import { SpiffeError } from './errors.ts'

/**
 * Refuses what is no host name in strict IDNA's ASCII form, but for underscores, which SPIRE's servers take and names of containers have:
 * labels of `a-z 0-9 - _`, 63 bytes each, 253 in all, no hyphen at either end; `xn--` labels decode and encode to themselves. A wildcard
 * may be the whole first label. No trailing dot.
 * @throws {SpiffeError} `entry_malformed`
 */
export function checkDnsName (name: string): string {
  const rule = brokenRule(name)
  if (rule === undefined) return name
  const shown = name.length > 260 ? `${name.slice(0, 260)}…` : name
  throw new SpiffeError('entry_malformed', `${rule}: ${JSON.stringify(shown)}`)
}

/**
 * Refuses a name that a wildcard beside it covers: one of the two is a mistake.
 * @throws {SpiffeError} `entry_malformed`
 */
export function checkNoOverlap (names: readonly string[]): void {
  const given = new Set(names)
  for (const name of names) {
    const covering = name.replace(/^[^.]+/, '*')
    if (name !== covering && given.has(covering)) throw new SpiffeError('entry_malformed', `DNS name "${name}" overlaps with "${covering}"`)
  }
}

function brokenRule (name: string): string | undefined {
  if (name.trim() === '') return 'empty or only whitespace'
  if (name.length > 253) return 'longer than 253 bytes'
  if (name.endsWith('.')) return 'domain ends with dot'
  const stars = name.split('*').length - 1
  if (stars > 1) return 'too many wildcards'
  if (stars === 1 && !name.startsWith('*.')) return 'wildcard must be first label'
  for (const label of (stars === 1 ? name.slice(2) : name).split('.')) {
    if (label === '') return 'empty label'
    if (label.length > 63) return 'label is longer than 63 bytes'
    if (!/^[a-z0-9_-]+$/.test(label)) return 'character other than a-z 0-9 - _'
    if (label.startsWith('-') || label.endsWith('-')) return 'label begins or ends with a hyphen'
    if (label.slice(2, 4) === '--' && !isPunycode(label)) return 'label with hyphens in third and fourth place is no punycode'
  }
  return undefined
}

function isPunycode (label: string): boolean {
  const decoded = label.startsWith('xn--') ? domainToUnicode(label) : label
  return decoded !== label && domainToASCII(decoded) === label
}
