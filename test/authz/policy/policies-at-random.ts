import { readPolicies } from '../../../src/authz/policy/read-policies.ts'
import type { PolicySet } from '../../../src/authz/policy/policy-set.ts'
import type { AuthzRequest } from '../../../src/authz/policy/request.ts'
import { weekDays } from '../../../src/authz/policy/time-window.ts'
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
const paths = ['/', '/api', '/api/v1', '/api/v1/users', '/api/v2/users', '/static/x.js', '/api/v1/users?x=1', '/a//b',
  '/api/../admin', '/api;x=1', '/%2e%2e/api', '/api%2fv1']
const pathPatterns = ['/', '/api', '/api/v1/users', '/api*', '/api/*', '*.js', '*', '/api/{*}/users', '/api/{**}', '/static/{*}']
const methods = ['GET', 'POST', 'PUT']
const hosts = ['shop.test', 'SHOP.test:8080', 'api.shop.test.', 'other']
const headers = ['one', 'two', 'one,two']
const actions = ['allow', 'allow', 'allow', 'deny', 'audit'].map(action => ({ action }))
const selectors = ['unix:uid:1', 'unix:uid:2', 'k8s:ns:a']
const principals = ['i/ann', 'i/*', '*', '*bob', 'j/x']
const times = ['2026-06-01T00:00:00Z', '2026-06-05T00:00:00Z', '2026-06-06T00:00:00Z', '2027-01-01T00:00:00Z']
const addresses = ['10.1.0.5', '10.2.0.5', '192.168.0.1']
/** What few write, and what only who wants to be let in would send. */
const rarer = {
  ids: ['was.test/web', 'was.test/team/a/x', 'third.test/api', 'else.test/api', 'own.test', 'far.test']
    .map(id => parseSpiffeId(`spiffe://${id}`)),
  idPatterns: ['spiffe://was.test/web', 'spiffe://was.test/*', 'spiffe://third.test/*', 'spiffe://else.test/*'],
  invalidIds: ['spiffe://far.test//api', 'spiffe://own.test/web,spiffe://far.test/x'],
  networks: ['0.0.0.0/0', '::/0', 'fd00::/8', '10.1.0.5', '::ffff:10.1.0.0/112', 'fd00::7'],
  addresses: ['fd00::7', 'fd01::1', '::1', '::ffff:10.1.0.5', '::ffff:192.168.0.1', 'no address'],
  hosts: ['', '[::1]', '[::1]:80', 'shop.test:', 'a@shop.test', 'shop.test..', 'SHOP.TEST.:1', 'api.shop.test:80:81'],
  hostPatterns: ['[::1]', '*', '*.test', 'shop.test.*', 'a@*', '*.'],
  paths: ['', '*', 'http://shop.test/api', '/api/', '/API', '/api/v1/v2/users', '/a=b', '=/api', '/api?', '/.api', '/api/..'],
  pathPatterns: ['/*', '/ap*', '/{**}', '/api/{**}/users', '/{*}/{*}/{**}', '/api/', '*/users', '*i', '/a=b', '/a=*'],
  methods: ['get', '=GET', 'GETS'],
  methodPatterns: ['*', 'G*', '*T', '=GET', '=*'],
  headers: ['', ',', 'one,', 'two '],
  headerPatterns: ['*,', ',*', 'one,']
}

function some<T> (random: Random, items: readonly T[]): T[] {
  return Array.from({ length: 1 + random.below(3) }, () => random.pick(items))
}

/** Keys by chance; at least one. */
function keys (random: Random, makers: Readonly<Record<string, () => unknown>>, chance: number): Record<string, unknown> {
  const chosen = Object.entries(makers).filter(() => random.chance(chance))
  const [first] = Object.entries(makers)
  return Object.fromEntries((chosen.length > 0 || first === undefined ? chosen : [first]).map(([key, make]) => [key, make()]))
}

/** Keys of callers, operations and conditions that few tests of others than the engine know how to make true. */
function widerKeys (random: Random) {
  const lists = (values: readonly unknown[]) => random.chance(0.5) ? { values: some(random, values) } : { notValues: some(random, values) }
  const grpc = () => [{ service: random.pick(['api.v1', 'shop.v1']), ...random.chance(0.5) ? { methods: ['Get'] } : {} }]
  const time = () => keys(random, {
    notBefore: () => random.pick(times), notAfter: () => random.pick(times), days: () => some(random, weekDays),
    from: () => random.pick(['08:00', '22:00']), to: () => random.pick(['12:00', '06:00'])
  }, 0.3)
  const workloads = { selectors: () => [random.pick(selectors)], notSelectors: () => [random.pick(selectors)] }
  return {
    workloads,
    source: {
      ...workloads, notTrustDomains: () => [random.pick(['own.test', 'far.test'])],
      requestPrincipals: () => some(random, principals), notRequestPrincipals: () => some(random, principals),
      remoteAddresses: () => ['10.1.0.0/16'], notRemoteAddresses: () => ['10.2.0.0/16']
    },
    operation: {
      ...workloads, notHosts: () => ['shop.test'], grpc, notGrpc: grpc,
      headers: () => [{ name: 'x-test', notValues: some(random, ['one', 'two*']) }]
    },
    condition: () => random.pick([
      { time: time() }, { notTime: time() }, { claim: { path: 'role', ...lists(['admin', 'user*']) } }, { audience: lists(['db', 'web']) },
      { claim: { path: ['realm', 'level'], ...lists(['3', 'true']) } }, { presenter: lists(['cli']) },
      { tls: { [random.pick(['atLeast', 'notAtLeast'])]: random.pick(['TLSv1.2', 'TLSv1.3']) } }
    ])
  }
}

/**
 * @param everything whatever a policy can say, to be resolved by `selectedIds`; else what Envoy's filters can be told too
 * @param rarely what few write as well
 */
export function randomPolicies (random: Random, mostRules = 12, everything = false, rarely = false): PolicySet {
  return readPolicies([{ name: 'random', text: JSON.stringify(randomDocuments(random, mostRules, everything, rarely)) }])
}

/** The same as they are written. */
export function randomDocuments (random: Random, mostRules: number, everything: boolean, rarely = false): object[] {
  const wider = everything ? widerKeys(random) : { workloads: {}, source: {}, operation: {} }
  const or = <T>(every: readonly T[], rare: readonly T[]) => rarely && random.chance(0.3) ? [...every, ...rare] : every
  const source = () => keys(random, {
    ids: () => some(random, or(idPatterns, rarer.idPatterns)), notIds: () => some(random, or(idPatterns, rarer.idPatterns)),
    trustDomains: () => [random.pick(or(['own.test', 'far.test'], ['was.test', 'third.test']))],
    addresses: () => [random.pick(or(['10.1.0.0/16', '10.2.0.0/16'], rarer.networks))],
    notAddresses: () => or(['10.1.0.0/16'], rarer.networks), ...wider.source
  }, everything ? 0.15 : 0.25)
  const operation = () => keys(random, {
    paths: () => some(random, or(pathPatterns, rarer.pathPatterns)), notPaths: () => some(random, or(pathPatterns, rarer.pathPatterns)),
    ids: () => some(random, idPatterns),
    methods: () => some(random, or(methods, rarer.methodPatterns)), notMethods: () => [random.pick(or(methods, rarer.methodPatterns))],
    ports: () => some(random, [80, 8_080]), notPorts: () => [80],
    hosts: () => some(random, or(['shop.test', '*.shop.test', 'shop*'], rarer.hostPatterns)),
    headers: () => [{ name: 'X-Test', values: some(random, or(['one', 'two*', '*two', '*'], rarer.headerPatterns)) }], ...wider.operation
  }, everything ? 0.12 : 0.2)
  const rule = (i: number) => ({
    name: `r${i}`,
    ...random.pick<object>([...actions, ...everything ? [{ action: 'custom', provider: 'asked' }] : []]),
    ...random.chance(0.7) ? { from: Array.from({ length: 1 + random.below(2) }, source) } : {},
    ...random.chance(0.7) ? { to: Array.from({ length: 1 + random.below(2) }, operation) } : {},
    ...random.chance(0.2) ? { when: [random.pick([{ sni: { values: ['shop.test'] } }, { sni: { notValues: ['shop.test'] } }])] } : {},
    ...'condition' in wider && random.chance(0.3) ? { when: [wider.condition()] } : {}
  })
  return [
    {
      apiVersion: 'assay/v1', kind: 'Settings', trustDomain: 'own.test', defaultAction: random.pick(['allow', 'deny']),
      ...rarely && random.chance(0.3) ? { trustDomainAliases: ['was.test'] } : {}
    },
    ...rarely ? moreScopes(random) : [],
    ...random.chance(0.6) ? [{
      apiVersion: 'assay/v1', kind: 'FederationScope', trustDomain: 'far.test', accept: some(random, foreignPatterns),
      ...random.chance(0.3) ? { workloads: some(random, ownPatterns) } : {},
      ...random.chance(0.3) ? { until: random.pick(['2026-01-01T00:00:00Z', '2027-01-01T00:00:00Z']) } : {}
    }] : [],
    ...Array.from({ length: 1 + random.below(3) }, (_, i) => ({
      apiVersion: 'assay/v1', kind: 'Policy', name: `p${i}`, mode: random.chance(0.9) ? 'enforce' : 'shadow',
      ...random.chance(0.5)
        ? { workloads: keys(random, {
          ids: () => some(random, idPatterns), notIds: () => some(random, ids), ...wider.workloads
        }, everything ? 0.3 : 0.6) } : {},
      rules: Array.from({ length: 1 + random.below(mostRules) }, (_, n) => rule(n))
    }))
  ]
}

/** One relationship may be several documents, which add up. */
function moreScopes (random: Random): object[] {
  const scope = { apiVersion: 'assay/v1', kind: 'FederationScope' }
  return [
    ...random.chance(0.3)
      ? [{ ...scope, trustDomain: 'far.test', accept: ['spiffe://far.test/other'], workloads: some(random, ownPatterns) }] : [],
    ...random.chance(0.3) ? [{ ...scope, trustDomain: 'third.test', accept: ['spiffe://third.test/*'] }] : [],
    ...random.chance(0.2) ? [{ ...scope, trustDomain: 'else.test' }] : []
  ]
}

/** Who has which selectors, as servers know it. */
export function selectedIds (list: readonly string[]): ReadonlySet<SpiffeId> {
  return new Set(ids.filter((_, i) => list.every(selector => selectors.indexOf(selector) === i % selectors.length)))
}

/** Facts besides those of `randomRequest`. */
export function widerRequest (random: Random): AuthzRequest {
  const request = randomRequest(random)
  const claims = random.pick<Record<string, unknown> | undefined>([undefined, {}, {
    iss: 'i', sub: random.pick(['ann', 'bob']), role: random.pick<unknown>(['admin', ['user1', 'x'], 7]),
    aud: random.pick<unknown>(['db', ['web', 'db'], 1]), azp: random.pick(['cli', 'ui']),
    realm: random.pick<unknown>([{ level: 3 }, { level: [true, 'x'] }, 'realm', null])
  }])
  const or = <T>(every: T, rare: readonly T[]) => random.chance(0.1) ? random.pick(rare) : every
  const http = request.http === undefined ? {} : { http: {
    method: or(request.http.method, rarer.methods), host: or(request.http.host, rarer.hosts),
    path: or(random.pick([...paths, '/api.v1/Get', '/api.v1/Put', '/shop.v1/Get']), rarer.paths),
    headers: random.chance(0.1) ? new Map([['x-test', random.pick(rarer.headers)]]) : request.http.headers,
    claims, severalTokens: random.chance(0.1)
  } }
  const { id, address } = request.source
  return {
    ...request, ...http,
    source: {
      ...random.chance(0.03) ? { invalidId: random.pick(rarer.invalidIds) } : { id: or(id, rarer.ids) },
      address: or(address, rarer.addresses), remoteAddress: random.chance(0.3) ? or(random.pick(addresses), rarer.addresses) : undefined
    },
    destination: { ...request.destination, port: random.chance(0.1) ? undefined : request.destination.port },
    tls: random.pick([undefined, {}, { version: 'TLSv1.3', sni: '' }, { version: 'TLSv1.2', sni: 'shop.test' }, { version: 'TLSv1.1' }]),
    time: new Date(random.pick(times.slice(0, 3)).replace('T00', `T${random.pick(['05', '09', '12', '23'])}`))
  }
}

export function randomRequest (random: Random): AuthzRequest {
  const peer = (list: readonly SpiffeId[]) => random.chance(0.1) ? undefined : random.pick(list)
  return {
    source: { id: peer([...ids, ...foreign]), address: random.chance(0.1) ? undefined : random.pick(addresses) },
    destination: { id: peer(ids), port: random.pick([80, 8_080, 9_000]) },
    ...random.chance(0.8) ? { http: {
      method: random.pick(methods), path: random.pick(paths), host: random.pick(hosts),
      headers: new Map(random.chance(0.5) ? [['x-test', random.pick(headers)]] : [])
    } } : {},
    ...random.chance(0.5) ? { tls: { sni: random.pick(['shop.test', 'other', undefined]) } } : {},
    time: new Date('2026-06-01T12:00:00Z')
  }
}
