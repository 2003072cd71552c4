import { readPolicies } from '../../../src/authz/policy/read-policies.ts'
import type { PolicySet } from '../../../src/authz/policy/policy-set.ts'
import type { AuthzRequest } from '../../../src/authz/policy/request.ts'
import { parseSpiffeId, type SpiffeId } from '../../../src/spiffe/spiffe-id.ts'
import type { Random } from '../../fakes/random.ts'

/** Few names, so that rules and requests meet often. */
const ids = ['web', 'web/front', 'web/front/1', 'db', 'team/a/x', 'team/a/y', 'team/b/x']
  .map(path => parseSpiffeId(`spiffe://own.test/${path}`))
const foreign = ['api', 'api/v1', 'other'].map(path => parseSpiffeId(`spiffe://far.test/${path}`))
const below = ['own.test/web/*', 'own.test/web/front/*', 'own.test/team/*', 'own.test/*', 'far.test/*', 'far.test/api/*']
const idPatterns = [...ids, ...foreign, ...below.map(path => `spiffe://${path}`)]
const ownPatterns = idPatterns.filter(id => id.startsWith('spiffe://own.test'))
const foreignPatterns = idPatterns.filter(id => id.startsWith('spiffe://far.test'))
const paths = ['/', '/api', '/api/v1', '/api/v1/users', '/api/v2/users', '/static/x.js', '/api/v1/users?x=1', '/a//b', '/api/../admin',
  '/api;x=1', '/%2e%2e/api', '/api%2fv1']
const pathPatterns = ['/', '/api', '/api/v1/users', '/api*', '/api/*', '*.js', '*', '/api/{*}/users', '/api/{**}', '/static/{*}']
const methods = ['GET', 'POST', 'PUT']
const hosts = ['shop.test', 'SHOP.test:8080', 'api.shop.test.', 'other']
const headers = ['one', 'two', 'one,two']
const addresses = ['10.1.0.5', '10.2.0.5', '192.168.0.1']

function some<T> (random: Random, items: readonly T[]): T[] {
  return Array.from({ length: 1 + random.below(3) }, () => random.pick(items))
}

/** Keys by chance; at least one. */
function keys (random: Random, makers: Readonly<Record<string, () => unknown>>, chance: number): Record<string, unknown> {
  const chosen = Object.entries(makers).filter(() => random.chance(chance))
  const [first] = Object.entries(makers)
  return Object.fromEntries((chosen.length > 0 || first === undefined ? chosen : [first]).map(([key, make]) => [key, make()]))
}

export function randomPolicies (random: Random, mostRules = 12): PolicySet {
  const source = () => keys(random, {
    ids: () => some(random, idPatterns), notIds: () => some(random, idPatterns),
    trustDomains: () => [random.pick(['own.test', 'far.test'])],
    addresses: () => [random.pick(['10.1.0.0/16', '10.2.0.0/16'])], notAddresses: () => ['10.1.0.0/16']
  }, 0.25)
  const operation = () => keys(random, {
    paths: () => some(random, pathPatterns), notPaths: () => some(random, pathPatterns), ids: () => some(random, idPatterns),
    methods: () => some(random, methods), notMethods: () => [random.pick(methods)],
    ports: () => some(random, [80, 8_080]), notPorts: () => [80], hosts: () => some(random, ['shop.test', '*.shop.test', 'shop*']),
    headers: () => [{ name: 'X-Test', values: some(random, ['one', 'two*', '*two', '*']) }]
  }, 0.2)
  const rule = (i: number) => ({
    name: `r${i}`,
    action: random.pick(['allow', 'allow', 'allow', 'deny', 'audit']),
    ...random.chance(0.7) ? { from: Array.from({ length: 1 + random.below(2) }, source) } : {},
    ...random.chance(0.7) ? { to: Array.from({ length: 1 + random.below(2) }, operation) } : {},
    ...random.chance(0.2) ? { when: [random.pick([{ sni: { values: ['shop.test'] } }, { sni: { notValues: ['shop.test'] } }])] } : {}
  })
  const documents = [
    { apiVersion: 'assay/v1', kind: 'Settings', trustDomain: 'own.test', defaultAction: random.pick(['allow', 'deny']) },
    ...random.chance(0.6) ? [{
      apiVersion: 'assay/v1', kind: 'FederationScope', trustDomain: 'far.test', accept: some(random, foreignPatterns),
      ...random.chance(0.3) ? { workloads: some(random, ownPatterns) } : {},
      ...random.chance(0.3) ? { until: random.pick(['2026-01-01T00:00:00Z', '2027-01-01T00:00:00Z']) } : {}
    }] : [],
    ...Array.from({ length: 1 + random.below(3) }, (_, i) => ({
      apiVersion: 'assay/v1', kind: 'Policy', name: `p${i}`, mode: random.chance(0.9) ? 'enforce' : 'shadow',
      ...random.chance(0.5)
        ? { workloads: keys(random, { ids: () => some(random, idPatterns), notIds: () => some(random, ids) }, 0.6) } : {},
      rules: Array.from({ length: 1 + random.below(mostRules) }, (_, n) => rule(n))
    }))
  ]
  return readPolicies([{ name: 'random', text: JSON.stringify(documents) }])
}

export function randomRequest (random: Random): AuthzRequest {
  const peer = (list: readonly SpiffeId[]) => random.chance(0.1) ? undefined : random.pick(list)
  return {
    source: { id: peer([...ids, ...foreign]), address: random.pick(addresses) },
    destination: { id: peer(ids), port: random.pick([80, 8_080, 9_000]) },
    ...random.chance(0.8) ? { http: {
      method: random.pick(methods), path: random.pick(paths), host: random.pick(hosts),
      headers: new Map(random.chance(0.5) ? [['x-test', random.pick(headers)]] : [])
    } } : {},
    ...random.chance(0.5) ? { tls: { sni: random.pick(['shop.test', 'other', undefined]) } } : {},
    time: new Date('2026-06-01T12:00:00Z')
  }
}
