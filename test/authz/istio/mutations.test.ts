import t from 'tap'
import { PolicyEngine } from '../../../src/authz/policy/policy-engine.ts'
import { SpiffeError } from '../../../src/spiffe/errors.ts'
import { http, policy, readMesh, tcp } from './mesh.ts'

/** Everything that can be said at once. */
const whole = {
  ...policy('foo/p', {
    selector: { matchLabels: { app: 'app' } },
    action: 'DENY',
    rules: [{
      from: [{ source: {
        principals: ['*'], notPrincipals: ['a/ns/b/sa/c'], namespaces: ['a*'], notNamespaces: ['b'], requestPrincipals: ['i/s'],
        notRequestPrincipals: ['i/*'], ipBlocks: ['10.0.0.0/8'], notIpBlocks: ['10.1.0.1'],
        remoteIpBlocks: ['::/0'], notRemoteIpBlocks: ['::1']
      } }, { source: { serviceAccounts: ['a'], notServiceAccounts: ['b/c'] } }],
      to: [{ operation: {
        hosts: ['a'], notHosts: ['b'], ports: ['1'], notPorts: ['2'], methods: ['GET'], notMethods: ['PUT'],
        paths: ['/a/{*}'], notPaths: ['/b']
      } }],
      when: [{ key: 'request.headers[a]', values: ['b'], notValues: ['c'] }, { key: 'request.auth.principal', values: ['i/s'] }]
    }]
  }, { 'istio.io/dry-run': 'false' }),
  status: {}
}

const junk: readonly unknown[] = [
  null, true, 1e300, '', '*', '**', '/', 'a[b', '{*}', '\u0000', '\ud800', '__proto__', [], [[]], [null], {}, { constructor: 'x' }
]

t.test('junk anywhere in a document is read or refused by name, and is no fault of ours', t => {
  const counts = { read: 0, refused: 0 }
  for (const path of pathsOf(whole)) {
    for (const value of junk) {
      try {
        const engine = new PolicyEngine(readMesh([changed(whole, path, value)]))
        engine.decide(http({ claims: { iss: 'i', sub: 's' } }))
        engine.decide(tcp())
        counts.read++
      } catch (error) {
        if (!(error instanceof SpiffeError) || error.code !== 'policy_malformed') {
          t.fail(`${path.join('.')} = ${JSON.stringify(value)}: ${String(error)}`)
        }
        counts.refused++
      }
    }
  }
  t.ok(counts.read > 50 && counts.refused > 1_000, JSON.stringify(counts))
  t.end()
})

function pathsOf (value: unknown, path: readonly string[] = []): ReadonlyArray<readonly string[]> {
  if (typeof value !== 'object' || value === null) return [path]
  return [...path.length === 0 ? [] : [path], ...Object.entries(value).flatMap(([key, inner]) => pathsOf(inner, [...path, key]))]
}

function changed (root: object, path: readonly string[], value: unknown): unknown {
  const copy = structuredClone(root)
  const parent = path.slice(0, -1).reduce<any>((at, key) => at[key], copy)
  parent[path.at(-1) as string] = value
  return copy
}
