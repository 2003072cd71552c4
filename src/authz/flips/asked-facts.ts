import type { Fact } from '../policy/facts.ts'
import type { PolicySet } from '../policy/policy-set.ts'

/** JSON pointers into a decision's input of all that the rules ask about, and of whose answer is listed. */
export function askedPointers (sets: readonly PolicySet[]): readonly string[] {
  const tests = sets.flatMap(({ rules }) => rules).flatMap(({ target, from = [], to = [], when }) => [target, ...from, ...to, when].flat())
  const asked = tests.flatMap(({ fact }) => pointersOf(fact))
  return [...new Set([...asked, '/input/source/id', '/input/destination/id', '/input/destination/port', '/input/http/method',
    '/input/http/path'])]
}

/** Whether one of these is a part of the others, or the other way round. */
export function touches (pointers: readonly string[], asked: readonly string[]): boolean {
  return pointers.some(pointer => asked.some(other =>
    pointer === other || pointer.startsWith(`${other}/`) || other.startsWith(`${pointer}/`)))
}

function pointersOf (fact: Fact): readonly string[] {
  switch (fact.name) {
    case 'header': return [`/input/http/headers/${escape(fact.header)}`]
    case 'claim': return [`/input/http/claims/${fact.path.map(escape).join('/')}`]
    case 'jwt.principal': return ['/input/http/claims/iss', '/input/http/claims/sub']
    case 'jwt.audience': return ['/input/http/claims/aud']
    case 'jwt.presenter': return ['/input/http/claims/azp']
    case 'host': case 'method': case 'path': return [`/input/http/${fact.name}`]
    case 'source.remoteAddress': return ['/input/source/remoteAddress', '/input/source/address']
    default: return [`/input/${fact.name.replace('.', '/')}`]
  }
}

function escape (key: string): string { return key.replaceAll('~', '~0').replaceAll('/', '~1') }
