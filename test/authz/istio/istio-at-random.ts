import { PolicyEngine } from '../../../src/authz/policy/policy-engine.ts'
import type { AuthzRequest } from '../../../src/authz/policy/request.ts'
import { Random } from '../../fakes/random.ts'
import { judgeIstio } from './istio-oracle.ts'
import { http, plainText, policy, readMesh, tcp, type Ask, type RawPolicy } from './mesh.ts'

/** Few names, so that policies and requests meet often. */
const values: Readonly<Record<string, readonly string[]>> = {
  principals: ['mesh.test/ns/foo/sa/web', 'cluster.local/ns/bar/sa/app', 'old.test/ns/foo/*', 'mesh.test/*', '*/ns/foo/sa/web', '*/sa/db',
    '*', 'partner.test/ns/foo/sa/web', 'partner.test/*', '*ld.test/ns/foo/sa/db', 'mesh.test/edge'],
  namespaces: ['foo', 'bar', 'f*', '*r', '*'],
  serviceAccounts: ['web', 'foo/db', 'bar/app'],
  requestPrincipals: ['*', 'a/x', 'a/*', '*/y', 'https://b/x', 'https://b/*', 'a*', '*y'],
  ipBlocks: ['10.0.0.0/8', '10.0.0.1', '192.0.2.0/24'],
  remoteIpBlocks: ['10.0.0.0/8', '192.0.2.0/24', '198.51.100.7'],
  hosts: ['app.foo', 'APP.*', '*.bar', '*', 'app.foo:8080'],
  ports: ['80', '8080'],
  methods: ['GET', 'P*', '*T', '*'],
  paths: ['/a', '/a/*', '*.png', '*', '/a/{*}', '/a/{**}', '/{**}/b', '/{*}/b/{**}']
}
const conditions: Readonly<Record<string, readonly string[]>> = {
  'source.principal': values['principals'] as readonly string[],
  'source.namespace': values['namespaces'] as readonly string[],
  'source.ip': ['10.0.0.0/16'],
  'remote.ip': ['192.0.2.0/24'],
  'destination.ip': ['10.9.0.0/16', '10.8.0.1'],
  'destination.port': ['80'],
  'connection.sni': ['a.test', '*.test', '*'],
  'request.auth.principal': values['requestPrincipals'] as readonly string[],
  'request.auth.audiences': ['one', 't*'],
  'request.auth.claims[scope]': ['read', 'write', 'read write'],
  'request.auth.claims[in][side]': ['x'],
  'request.headers[X-Test]': ['1', '2*', '*']
}
const callers = ['foo/web', 'foo/db', 'bar/app', 'bar/web', 'spiffe://old.test/ns/foo/sa/web', 'spiffe://old.test/ns/foo/sa/db',
  'spiffe://partner.test/ns/foo/sa/web', 'spiffe://partner.test/ns/bar/sa/db', 'spiffe://mesh.test/edge']

const labels = [{ app: 'app' }, { version: 'v2' }, { app: 'app', version: 'v1' }]

function some<T> (random: Random, items: readonly T[], most = 2): T[] {
  return Array.from({ length: 1 + random.below(most) }, () => random.pick(items))
}

/** Some of the keys or their opposites, at least one. */
function fields (random: Random, keys: readonly string[]): Record<string, string[]> {
  const chosen = keys.filter(() => random.chance(0.2))
  return Object.fromEntries((chosen.length > 0 ? chosen : [random.pick(keys)]).map(key => [
    random.chance(0.3) ? `not${key[0]?.toUpperCase()}${key.slice(1)}` : key, some(random, values[key] as readonly string[])
  ]))
}

function randomRule (random: Random): object {
  const source = () => ({ source: fields(random, random.chance(0.2) ? ['serviceAccounts', 'ipBlocks', 'requestPrincipals']
    : ['principals', 'namespaces', 'requestPrincipals', 'ipBlocks', 'remoteIpBlocks']) })
  const operation = () => ({ operation: fields(random, ['hosts', 'ports', 'methods', 'paths']) })
  const condition = () => {
    const [key, allowed] = random.pick(Object.entries(conditions))
    return { key, [random.chance(0.3) ? 'notValues' : 'values']: some(random, allowed) }
  }
  return {
    ...random.chance(0.6) ? { from: some(random, [source, source, source]).map(make => make()) } : {},
    ...random.chance(0.5) ? { to: some(random, [operation, operation, operation]).map(make => make()) } : {},
    ...random.chance(0.3) ? { when: some(random, [condition, condition]).map(make => make()) } : {}
  }
}

function randomPolicies (random: Random): RawPolicy[] {
  return Array.from({ length: 1 + random.below(5) }, (_, i) => policy(`${random.pick(['foo', 'foo', 'bar', 'istio-system'])}/p${i}`, {
    ...random.chance(0.3) ? { selector: { matchLabels: random.pick(labels) } } : {},
    ...random.chance(0.5) ? { action: random.pick(['ALLOW', 'DENY', 'DENY']) } : {},
    ...random.chance(0.1) ? {} : { rules: Array.from({ length: random.below(4) }, () => randomRule(random)) }
  }, random.chance(0.1) ? { 'istio.io/dry-run': 'true' } : undefined))
}

function randomRequest (random: Random): AuthzRequest {
  const ask: Ask = {
    from: random.pick(callers), to: random.pick(['foo/app', 'foo/db', 'bar/app', 'spiffe://old.test/ns/foo/sa/app']),
    port: random.pick([80, 8_080]), ip: random.pick(['10.0.0.1', '10.1.0.1', '192.0.2.9']), sni: random.pick(['', 'a.test', 'other']),
    ...random.chance(0.4) ? { remoteIp: random.pick(['192.0.2.1', '198.51.100.7']) } : {},
    method: random.pick(['GET', 'POST', 'PUT']), host: random.pick(['app.foo', 'App.Foo:8080', 'x.bar']),
    path: random.pick(['/a', '/a/b', '/a/b/c', '/x/b', '/x.png?y', '/a//b', '/a/', '/x/y/b']),
    headers: random.chance(0.5) ? { 'x-test': random.pick(['1', '21']) } : {},
    ...random.chance(0.6) ? { claims: {
      iss: random.pick(['a', 'https://b']), sub: random.pick(['x', 'y']), aud: random.pick(['one', ['one', 'two'], 'three']),
      scope: random.pick(['read write', 'read', '']), in: random.pick<unknown>([{ side: 'x' }, { side: ['x', 'y'] }, 'x'])
    } } : {}
  }
  return random.chance(0.2) ? tcp(ask) : random.chance(0.1) ? plainText(ask) : http(ask)
}

/** Engine and documents' oracle on the same choices. `differences` has at most five, each with what it takes to see it again. */
export function compareIstio (seed: number, sets: number, requests: number): { differences: string[], seen: Map<string, number> } {
  const random = new Random(seed)
  const seen = new Map<string, number>()
  const differences: string[] = []
  for (let round = 0; round < sets && differences.length < 5; round++) {
    const policies = randomPolicies(random)
    const engine = new PolicyEngine(readMesh(policies))
    for (let i = 0; i < requests && differences.length < 5; i++) {
      const request = randomRequest(random)
      const { allowed, reason, rule } = engine.decide(request)
      const verdict = allowed ? 'allow' : 'deny'
      const answer = `${verdict} ${rule ?? reason}`
      const expected = judgeIstio(policies, request)
      if (answer !== expected) {
        const { http } = request
        const shown = { ...request, http: http === undefined ? undefined : { ...http, headers: [...http.headers] } }
        differences.push(JSON.stringify({ seed, round, i, answer, expected, request: shown, policies }))
      }
      const kind = `${request.http === undefined ? 'tcp' : 'http'} ${verdict} ${reason}`
      seen.set(kind, (seen.get(kind) ?? 0) + 1)
    }
  }
  return { differences, seen }
}
