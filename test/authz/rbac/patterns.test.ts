import t from 'tap'
import { holds } from '../../../src/authz/policy/evaluate.ts'
import { RequestFacts } from '../../../src/authz/policy/facts.ts'
import { parsePathMatch, parseTextMatch } from '../../../src/authz/policy/match-text.ts'
import { matches, type Match } from '../../../src/authz/policy/match.ts'
import { regularPath } from '../../../src/authz/policy/request-path.ts'
import type { Test } from '../../../src/authz/policy/rule.ts'
import { isRegular } from '../../../src/authz/rbac/path-pattern.ts'
import { testFormula } from '../../../src/authz/rbac/test-formula.ts'
import { parseSpiffeId } from '../../../src/spiffe/spiffe-id.ts'
import { parseTrustDomain } from '../../../src/spiffe/trust-domain.ts'
import { chooseSeed, Random } from '../../fakes/random.ts'
import { holdsOf } from './formula-in-node.ts'

const destination = parseSpiffeId('spiffe://own.test/web')
const place = { destination, kind: 'http', paths: 'any' } as const
const pieces = ['/', '/', '/', 'a', 'B', 'api', '.', '..', '...', ';', '\\', '%2f', '%2F', '%2e', '%41', '%61', '%3a', '%3A', '%c3%a9',
  '%2A.js', '%2a.js', '%', '%zz', '%0a', '%20', '?x=/a//b', '*', '~', '-', '_', '"', ':', 'A.js', '.js', '0', '%30', '#', '\u{e9}',
  '%7e', '%25', '%5B', '%7D', '%60']
const pathPatterns = ['/', '/a', '/api', '/api/a', '/api*', '/a*', '/api/*', '*.js', '*A.js', '*2A.js', '*a.js', '*js', '*',
  '/api/{*}', '/{*}/a', '/{**}', '/api/{**}', '/a%3A', '/a%3a', '/a%20*', '*%20', '*%C3%A9', '*9', '/%61', '/a%*', '/a%3*', '*/',
  '/a/{*}/%20', '*\u{e9}']
const hostPieces = ['a', 'B', 'shop', 'SHOP', '.test', '.', '..', ':', ':80', '[', ']', '[::1]', '\u{17f}', 'k', 'K', '-']
const hostPatterns = ['a', 'shop.test', 'shop.test.', 'shop*', 'a.*', '*.test', '*.test.', '*.', '*', '[::1]', '[::*', '*1]', '*::1]',
  'a:80', '*:80', '[*', 'k*', 's*', '*]']

function request (path: string, host: string) {
  return new RequestFacts({ source: {}, destination: {}, http: { method: 'GET', path, host, headers: new Map() }, time: new Date(0) })
}

/** Random tests of a fact against texts; what differs, at most three. */
function differences (
  fact: 'path' | 'host' | 'authority', patterns: readonly Match[], parts: readonly string[], rounds: number
): unknown[] {
  const random = new Random(chooseSeed())
  const found: unknown[] = []
  const outcomes = { true: 0, false: 0, undefined: 0 }
  const list = () => random.chance(0.3) ? undefined : Array.from({ length: 1 + random.below(2) }, () => random.pick(patterns))
  for (let round = 0; round < rounds && found.length < 3; round++) {
    const test: Test = { fact: { name: fact }, any: list() ?? [random.pick(patterns)], none: random.chance(0.3) ? list() : undefined }
    const text = (fact === 'path' ? '/' : '') + Array.from({ length: random.below(6) }, () => random.pick(parts)).join('')
    // Envoy refuses what is no URI by itself, and undoes needless escapes: taken as irregular, they let nobody in.
    const needless = fact === 'path' && /%(?:2d|3\d|4[1-9a-f]|5[0-9af]|6[1-9a-f]|7[0-9ae])/i.test(text.replace(/\?.*$/s, ''))
    const truth = needless ? undefined : holds(test, request(fact === 'path' ? text : '/', fact === 'path' ? 'x' : text))
    outcomes[`${truth}`]++
    const [certain, possible] = [testFormula(test, 'certain', place), testFormula(test, 'possible', place)].map(one => holdsOf(one, text))
    if (certain !== (truth === true) || possible !== (truth !== false)) found.push({ text, test, truth, certain, possible })
  }
  const expected = fact === 'path' ? Object.values(outcomes) : [outcomes.true, outcomes.false]
  return expected.every(count => count > rounds / 50) ? found : [outcomes]
}

t.test('what is asked of a path is what the engine asks, of regular paths, irregular ones and all between', t => {
  t.strictSame(differences('path', pathPatterns.map(parsePathMatch), pieces, 20_000), [])
  t.end()
})

t.test('what is asked of a host is what the engine asks, whatever its case, port, final dot and brackets', t => {
  t.strictSame(differences('host', hostPatterns.map(parseTextMatch), hostPieces, 20_000), [])
  t.end()
})

t.test('what is asked of an authority is what the engine asks, its port included, whatever its case', t => {
  const patterns = [...hostPatterns, 'shop.test:80', 'a:80*', '*:80', '*test:80', 'SHOP'].map(parseTextMatch)
  t.strictSame(differences('authority', patterns, hostPieces, 5_000), [])
  t.end()
})

t.test('a path is regular by one expression if it is so for the engine, and needs no change but the case of escapes', t => {
  const random = new Random(chooseSeed())
  let regular = 0
  for (let round = 0; round < 20_000; round++) {
    const path = `/${Array.from({ length: random.below(6) }, () => random.pick(pieces)).join('')}`
    const read = regularPath(path)
    const same = read !== undefined && read === path.replace(/\?.*$/s, '').replaceAll(/%../g, escape => escape.toUpperCase())
    if (same) regular++
    if (holdsOf(isRegular, path) !== same) t.fail(path)
  }
  t.ok(regular > 4_000, `${regular} were regular`)
  t.end()
})

t.test('what is asked of an ID is what the engine asks, also by namespace and service account', t => {
  const domains = ['own.test', 'ownxtest'].map(parseTrustDomain)
  const names: ReadonlyArray<Match | undefined> = [undefined, ...['web', 'we*', '*b', '*', 'a.b'].map(parseTextMatch)]
  const list: Match[] = names.flatMap(namespace => names.map(serviceAccount =>
    ({ kind: 'workload', workload: { domains: domains.slice(0, 1), namespace, serviceAccount } })))
  list.push({ kind: 'suffix', value: '/web', domains }, { kind: 'present', domains }, { kind: 'prefix', value: 'spiffe://own.test/ns/' })
  const segments = ['web', 'wes', 'b', 'a.b', 'axb', 'web/more']
  const ids = domains.flatMap(domain => segments.flatMap(ns => segments.map(sa => `spiffe://${domain}/ns/${ns}/sa/${sa}`)))
  ids.push('spiffe://own.test/web', 'spiffe://far.test/ns/web/sa/web', 'spiffe://own.test/ns/web', 'spiffe://own.test')
  const formula = (match: Match) => testFormula({ fact: { name: 'source.id' }, any: [match] }, 'certain', place)
  const wrong = list.flatMap(match => ids.filter(id => holdsOf(formula(match), id) !== matches(match, id)).map(id => ({ match, id })))
  t.strictSame(wrong, [])
  t.ok(list.every(match => ids.some(id => matches(match, id))), 'each is met by one')
  t.end()
})
