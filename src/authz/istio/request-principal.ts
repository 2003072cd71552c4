import type { Match } from '../policy/match.ts'
import { parseTextMatch } from '../policy/match-text.ts'
import type { Test } from '../policy/rule.ts'

/** Whoever must meet one of them as a whole. */
export type Alternatives = ReadonlyArray<readonly Test[]>

/** Two for each issuer that must not be, multiplied. */
const mostDenied = 6

/** A token's issuer and its subject are two claims; `ISS/SUB` is cut at the last slash, since issuers are URLs. */
export interface RequestPrincipal { readonly issuer: Match, readonly subject: Match }

/** Reads `ISS/SUB` with a star at one end. @throws {Error} saying the rule */
export function parseRequestPrincipal (text: string): RequestPrincipal {
  const present: Match = { kind: 'present' }
  const whole = parseTextMatch(text)
  if (whole.kind === 'present') return { issuer: present, subject: present }
  const slash = text.lastIndexOf('/')
  if (slash < 0) {
    if (whole.kind === 'suffix') return { issuer: present, subject: whole }
    if (whole.kind === 'prefix') return { issuer: whole, subject: present }
    throw new Error('must be ISSUER/SUBJECT')
  }
  const issuer = text.slice(0, slash)
  if (issuer.endsWith(':/')) throw new Error('a star cannot end an issuer that is a URL; ISSUER/* means all its subjects')
  if (issuer === '' || slash === text.length - 1) throw new Error('must be ISSUER/SUBJECT')
  return { issuer: parseTextMatch(issuer), subject: parseTextMatch(text.slice(slash + 1)) }
}

/** Tests are of one fact each: a pair becomes one alternative, its opposite two. @throws {Error} saying the rule */
export function requestPrincipalTests (
  any: readonly RequestPrincipal[] | undefined, none: readonly RequestPrincipal[] | undefined
): Alternatives {
  const wanted: Alternatives = any === undefined ? [[]] : byIssuer(any).map(({ issuer, subjects }) => [
    { fact: issuerClaim, any: [issuer] }, { fact: subjectClaim, any: subjects }
  ])
  const unwanted = none === undefined ? [] : byIssuer(none)
  if (unwanted.length > mostDenied) throw new Error(`must not have more than ${mostDenied} issuers`)
  return unwanted.reduce<Alternatives>((alternatives, { issuer, subjects }) => combined(alternatives, [
    [{ fact: issuerClaim, none: [issuer] }], [{ fact: subjectClaim, none: subjects }]
  ]), wanted)
}

/** All of one of the left and all of one of the right. */
export function combined (left: Alternatives, right: Alternatives): Alternatives {
  return left.flatMap(one => right.map(other => [...one, ...other]))
}

const issuerClaim = { name: 'claim', path: ['iss'] } as const
const subjectClaim = { name: 'claim', path: ['sub'] } as const

function byIssuer (principals: readonly RequestPrincipal[]): Array<{ issuer: Match, subjects: Match[] }> {
  const groups = new Map<string, { issuer: Match, subjects: Match[] }>()
  for (const { issuer, subject } of principals) {
    const key = JSON.stringify(issuer)
    const group = groups.get(key)
    if (group === undefined) groups.set(key, { issuer, subjects: [subject] })
    else group.subjects.push(subject)
  }
  return [...groups.values()]
}
