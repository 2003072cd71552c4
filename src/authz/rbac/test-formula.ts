import { matches, type Match } from '../policy/match.ts'
import type { Test } from '../policy/rule.ts'
import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import { all, any, not, type Formula, type NetworkTest, type Subject } from './formula.ts'
import { authorityFormulas, hostFormulas } from './host-pattern.ts'
import { impliesRegular, isRegular, pathFormula } from './path-pattern.ts'
import { textFormula } from './text-formula.ts'

/** Where the filter stands, and what is settled before it. */
export interface Place {
  readonly destination: SpiffeId
  readonly kind: 'network' | 'http'
  /**
   * Paths: `any` have to be looked at; `regular` and `irregular` are known to be that. To be irregular is what makes a path unknown.
   */
  readonly paths: 'any' | 'regular' | 'irregular'
  /** Nobody has claims. */
  readonly noTokens?: boolean | undefined
}

/** A fact that nobody knows is taken as what makes the test hold (`possible`) or fail (`certain`). */
export type Bound = 'certain' | 'possible'

/** What a test asks, in Envoy's terms: exactly when it is `true`, or exactly when it is not `false`. */
export function testFormula (test: Test, bound: Bound, { destination, kind, paths, noTokens }: Place): Formula {
  const { fact } = test
  const unknown = bound === 'possible'
  switch (fact.name) {
    case 'source.id': return textTest(test, 'peer')
    case 'source.address': return holds(test, list => networks('direct', list))
    // In HTTP it is a header that anybody can send, unless the connection manager is told whom to trust with it.
    case 'source.remoteAddress': return kind === 'http' ? { unsayable: 'an address that a header tells' }
      : holds(test, list => networks('remote', list))
    case 'destination.id': return holds(test, list => list.some(match => match.kind === 'selected' && match.ids === undefined)
      ? { unsayable: 'selectors that nobody has resolved' } : list.some(match => matches(match, destination)))
    case 'destination.address': return holds(test, list => networks('destination', list))
    case 'destination.port': return holds(test, list => any(list.map(portFormula)))
    case 'tls.sni': return textTest(test, 'sni')
    case 'time': return { unsayable: 'a time' }
    case 'tls.version': return { unsayable: 'a version of TLS' }
  }
  if (kind === 'network') return unknown
  switch (fact.name) {
    case 'host': return holds(test, hostFormulas)
    case 'authority': return holds(test, authorityFormulas)
    case 'method': return textTest(test, { header: ':method' })
    // Envoy takes `host` for `:authority`, which is no header of that name to whoever reads its requests.
    case 'header': return fact.header === 'host' ? { unsayable: 'the header host' } : textTest(test, { header: fact.header })
    case 'path': return pathTest(test, unknown, paths)
    default: return noTokens === true ? test.any === undefined : { unsayable: 'a claim of a token' }
  }
}

function pathTest (test: Test, unknown: boolean, paths: Place['paths']): Formula {
  if (paths === 'irregular') return unknown
  const formula = holds(test, list => any(list.map(pathFormula)))
  if (paths === 'regular') return formula
  if (unknown) return any([formula, not(isRegular)])
  return test.none === undefined && impliesRegular(test.any) ? formula : all([formula, isRegular])
}

function textTest (test: Test, subject: Subject): Formula {
  return holds(test, list => any(list.map(match => textFormula(subject, match))))
}

function portFormula (match: Match): Formula {
  if (match.kind !== 'exact') return { unsayable: `a port that is ${match.kind}` }
  return /^[1-9][0-9]{0,4}$/.test(match.value) && Number(match.value) < 65_536 && { subject: 'port', text: { exact: match.value } }
}

function holds (test: Test, some: (list: readonly Match[]) => Formula): Formula {
  return all([test.any === undefined || some(test.any), test.none === undefined || not(some(test.none))])
}

function networks (of: NetworkTest['of'], list: readonly Match[]): Formula {
  return any(list.map((match): Formula => {
    if (match.kind !== 'network') return { unsayable: `an address that is ${match.kind}` }
    const { text } = match.network
    // Whether these are about IPv4 addresses, Envoy and Node do not agree.
    if (/^[:0]*:ffff:/i.test(text) || text.startsWith('::/')) return { unsayable: 'IPv4 addresses written as IPv6' }
    return { of, network: match.network }
  }))
}
