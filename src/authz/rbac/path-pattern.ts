import type { Match } from '../policy/match.ts'
import { regularPath } from '../policy/request-path.ts'
import { any, type Formula } from './formula.ts'
import { literal } from './re2-text.ts'

/** Of printable ASCII, what may stand in a segment as it is; `.` besides. */
const character = String.raw`[!"$&'()*+,\-0-9:<=>@A-Z\[\]^_` + '`' + String.raw`a-z{|}~]`
/** Escapes that mean neither something else to some servers nor a character that needs none. */
const escape = '%(?:2[0-246-9a-cA-C]|3[ac-fAC-F]|40|5[bdeBDE]|60|7[b-dB-D]|[89a-fA-F][0-9a-fA-F])'
const segment = String.raw`(?:\.{0,2}(?:${character}|${escape})|\.{3})(?:${character}|\.|${escape})*`
const query = String.raw`(?:\?\C*)?`

const path = { header: ':path' }

/**
 * Paths that rules can be held against: those that `regularPath` leaves as they are but for the case of escapes. A needless escape
 * (`%61`), which it undoes, counts as irregular: where `normalize_path` is on, Envoy has undone it before any filter.
 */
export const isRegular: Formula = { subject: path, text: { regex: `(?:/|(?:/${segment})+/?)${query}` } }

/** What is asked of a regular path, asked of `:path` as it came; right of regular paths alone. */
export function pathFormula (match: Match): Formula {
  switch (match.kind) {
    case 'exact': return exact(match.value)
    case 'prefix': return match.value.includes('%') ? whole(escaped(match.value), String.raw`\C*`)
      : { subject: path, text: { prefix: match.value } }
    case 'suffix': return match.domains === undefined ? whole(end(match.value), query) : { unsayable: 'a path with a trust domain' }
    case 'present': return match.domains === undefined ? true : { unsayable: 'a path with a trust domain' }
    case 'template': return whole(template(match.template.text), query)
    default: return { unsayable: `a path that is ${match.kind}` }
  }
}

/** Whether no other path can be meant than one that is regular as it stands. */
export function impliesRegular (matches: readonly Match[] | undefined): boolean {
  return matches !== undefined && matches.every(({ kind }) => kind === 'exact')
}

function exact (value: string): Formula {
  if (regularPath(value) !== value) return false
  if (value.includes('%')) return whole(escaped(value), query)
  return any([{ subject: path, text: { exact: value } }, { subject: path, text: { prefix: `${value}?` } }])
}

/** @param regex of the path; `undefined`: no regular path is so */
function whole (regex: string | undefined, rest: string): Formula {
  return regex === undefined ? false : { subject: path, text: { regex: `(?:${regex})${rest}` } }
}

/** Regular paths have their escapes in upper case, and come in any. */
function escaped (text: string): string | undefined {
  if (/%[0-9A-F]?[a-f]/.test(text)) return undefined
  return text.split(/(%[0-9A-F]{0,2})/).map(part => part.startsWith('%')
    ? part.replaceAll(/[A-F]/g, digit => `[${digit.toLowerCase()}${digit}]`) : literal(part)).join('')
}

/** It may begin in the middle of an escape. */
function end (text: string): string | undefined {
  const digit = (character: string) => character.replace(/[A-F]/, letter => `[${letter.toLowerCase()}${letter}]`)
  const [first = '', second = ''] = text
  const all = [escaped(text)]
  if (/^[0-9A-F]/.test(text)) all.push(prefixed(`%[0-9a-fA-F]${digit(first)}`, escaped(text.slice(1))))
  if (/^[0-9A-F]{2}/.test(text)) all.push(prefixed(`%${digit(first)}${digit(second)}`, escaped(text.slice(2))))
  const possible = all.filter(one => one !== undefined)
  return possible.length === 0 ? undefined : `(?:[^%?]|%[0-9a-fA-F]{2})*(?:${possible.join('|')})`
}

function prefixed (first: string, rest: string | undefined): string | undefined { return rest === undefined ? undefined : first + rest }

function template (text: string): string | undefined {
  const parts = text.split('/').map(part => part === '{*}' ? '[^/?]+' : part === '{**}' ? '[^?]*' : escaped(part))
  return parts.includes(undefined) ? undefined : parts.join('/')
}
