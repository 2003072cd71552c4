/** One set of policies of `own.test` for the workload `spiffe://own.test/db`, and what must become of requests to it. */
export interface ConformanceSet {
  readonly name: string
  readonly rules: readonly object[]
  readonly more?: readonly object[]
  readonly defaultAction?: 'allow' | 'deny'
  /** Rules that no RBAC filter can say. */
  readonly external?: boolean
  readonly rows: readonly Row[]
}

export interface Row {
  /** Path of `own.test`, or a whole ID; `undefined`: no certificate. */
  readonly from: string | undefined
  readonly method?: string
  readonly path?: string
  readonly host?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly sni?: string
  /** Of the caller; all of 127.0.0.0/8 is this machine. */
  readonly address?: string
  readonly allowed: boolean
  /** The rule, or the reason where none decided. */
  readonly by: string
}

const web = 'spiffe://own.test/web'
const get = (path: string, allowed: boolean, by: string): Row => ({ from: '/web', path, allowed, by })

/** What docs/policies.md says, one thing after the other. */
export const conformanceSets: readonly ConformanceSet[] = [
  {
    name: 'who: exactly, by whole segments of a path, by trust domain, and not',
    rules: [
      { name: 'exact', action: 'allow', from: [{ ids: [web] }] },
      { name: 'below', action: 'allow', from: [{ ids: ['spiffe://own.test/team/*'], notIds: ['spiffe://own.test/team/b/*'] }] },
      { name: 'domain', action: 'allow', from: [{ trustDomains: ['far.test'] }] }
    ],
    more: [{ kind: 'FederationScope', trustDomain: 'far.test', accept: ['spiffe://far.test/api/*'], workloads: ['spiffe://own.test/db'] }],
    rows: [
      { from: '/web', allowed: true, by: 'p/exact' },
      { from: '/web/front', allowed: false, by: 'no-rule-allows' },
      { from: '/team/a/x', allowed: true, by: 'p/below' },
      { from: '/team/b/x', allowed: false, by: 'no-rule-allows' },
      { from: '/teams/a', allowed: false, by: 'no-rule-allows' },
      { from: 'spiffe://far.test/api/v1', allowed: true, by: 'p/domain' },
      { from: 'spiffe://far.test/other', allowed: false, by: 'federation/far.test' },
      { from: undefined, allowed: false, by: 'no-rule-allows' }
    ]
  },
  {
    name: 'deny before allow, whatever the order of the rules',
    rules: [
      { name: 'yes', action: 'allow', from: [{ ids: ['spiffe://own.test/*'] }] },
      { name: 'no', action: 'deny', to: [{ paths: ['/admin*'] }] },
      { name: 'nobody', action: 'deny', from: [{ notIds: ['spiffe://own.test/*'] }] }
    ],
    rows: [
      get('/', true, 'p/yes'), get('/admin', false, 'p/no'), get('/administrator', false, 'p/no'), get('/x/admin', true, 'p/yes'),
      { from: undefined, allowed: false, by: 'p/nobody' }
    ]
  },
  {
    name: 'paths: exact, beginnings, ends, templates; not what servers disagree about',
    rules: [
      { name: 'one', action: 'allow', to: [{ paths: ['/exact', '*.css', '/items/{*}/parts', '/tree/{**}'] }] }
    ],
    rows: [
      get('/exact', true, 'p/one'), get('/exact?q=/a//b', true, 'p/one'), get('/exact/', false, 'no-rule-allows'),
      get('/EXACT', false, 'no-rule-allows'), get('/a/b.css', true, 'p/one'), get('/items/7/parts', true, 'p/one'),
      get('/items/7/8/parts', false, 'no-rule-allows'), get('/tree/a/b', true, 'p/one'),
      get('/tree//a', false, 'no-rule-allows'), get('/tree/../x', false, 'no-rule-allows'), get('/tree/%2e%2e/x', false, 'no-rule-allows'),
      get('/tree/a;b', false, 'no-rule-allows'), get('/tree/a%2Fb', false, 'no-rule-allows'), get('/tree/a\\b', false, 'no-rule-allows'),
      get('/tree/a%00', false, 'no-rule-allows')
    ]
  },
  {
    name: 'an irregular path is refused by each rule that denies paths',
    defaultAction: 'allow',
    rules: [{ name: 'no', action: 'deny', to: [{ paths: ['/secret'] }] }],
    rows: [
      get('/public', true, 'default'), get('/secret', false, 'p/no'), get('/public/../secret', false, 'p/no'),
      get('//secret', false, 'p/no'), get('/%2fsecret', false, 'p/no'), get('/secret?x', false, 'p/no')
    ]
  },
  {
    name: 'methods, hosts, headers, gRPC',
    rules: [
      { name: 'reads', action: 'allow', to: [{ methods: ['GET', 'HEAD'], hosts: ['shop.test', '*.api.test'] }] },
      { name: 'team', action: 'allow', to: [{ headers: [{ name: 'X-Team', values: ['a', 'b*'] }], methods: ['POST'] }] },
      { name: 'grpc', action: 'allow', to: [{ grpc: [{ service: 'shop.v1.Orders', methods: ['Get'] }] }] }
    ],
    rows: [
      { from: '/web', host: 'shop.test', allowed: true, by: 'p/reads' },
      { from: '/web', host: 'SHOP.test:8080', allowed: true, by: 'p/reads' },
      { from: '/web', host: 'v1.api.test.', allowed: true, by: 'p/reads' },
      { from: '/web', host: 'other', allowed: false, by: 'no-rule-allows' },
      { from: '/web', method: 'POST', host: 'shop.test', allowed: false, by: 'no-rule-allows' },
      { from: '/web', method: 'POST', headers: { 'x-team': 'bee' }, allowed: true, by: 'p/team' },
      { from: '/web', method: 'POST', headers: { 'x-team': 'c' }, allowed: false, by: 'no-rule-allows' },
      { from: '/web', method: 'POST', host: 'x', path: '/shop.v1.Orders/Get', allowed: true, by: 'p/grpc' },
      { from: '/web', method: 'POST', host: 'x', path: '/shop.v1.Orders/Delete', allowed: false, by: 'no-rule-allows' }
    ]
  },
  {
    name: 'what must not be: calls of gRPC, methods, hosts, headers',
    rules: [
      { name: 'no-delete', action: 'allow', to: [{
        hosts: ['x'], notGrpc: [{ service: 'shop.v1.Orders', methods: ['Delete'] }, { service: 'shop.v1.Admin' }]
      }] },
      { name: 'elsewhere', action: 'allow', to: [{
        notHosts: ['x', 'y'], notMethods: ['PUT'], headers: [{ name: 'x-team', notValues: ['b*'] }]
      }] }
    ],
    rows: [
      { from: '/web', method: 'POST', host: 'x', path: '/shop.v1.Orders/Get', allowed: true, by: 'p/no-delete' },
      { from: '/web', method: 'POST', host: 'x', path: '/shop.v1.Orders/Delete', allowed: false, by: 'no-rule-allows' },
      { from: '/web', method: 'POST', host: 'x', path: '/shop.v1.Admin/Any', allowed: false, by: 'no-rule-allows' },
      { from: '/web', host: 'x', path: '/shop.v1.Orders/Delete', allowed: true, by: 'p/no-delete' },
      { from: '/web', method: 'POST', host: 'x', path: '/shop.v1.Orders//Delete', allowed: false, by: 'no-rule-allows' },
      { from: '/web', host: 'z', allowed: true, by: 'p/elsewhere' },
      { from: '/web', host: 'z', headers: { 'x-team': 'a' }, allowed: true, by: 'p/elsewhere' },
      { from: '/web', host: 'z', headers: { 'x-team': 'bee' }, allowed: false, by: 'no-rule-allows' },
      { from: '/web', host: 'z', method: 'PUT', allowed: false, by: 'no-rule-allows' },
      { from: '/web', host: 'Y.', allowed: false, by: 'no-rule-allows' }
    ]
  },
  {
    name: 'whence: addresses, and the name asked for by TLS',
    rules: [
      { name: 'net', action: 'allow', from: [{ addresses: ['127.1.0.0/16'], notAddresses: ['127.1.2.0/24'] }] },
      { name: 'sni', action: 'allow', when: [{ sni: { values: ['db.test'] } }] }
    ],
    rows: [
      { from: '/web', address: '127.1.0.5', allowed: true, by: 'p/net' },
      { from: '/web', address: '127.1.2.5', allowed: false, by: 'no-rule-allows' },
      { from: '/web', address: '127.2.0.5', allowed: false, by: 'no-rule-allows' },
      { from: '/web', address: '127.2.0.5', sni: 'db.test', allowed: true, by: 'p/sni' }
    ]
  },
  {
    name: 'whose rules: a workload that none is about goes by the default',
    defaultAction: 'allow',
    rules: [{ name: 'elsewhere', action: 'allow', to: [{ ids: ['spiffe://own.test/other'] }], from: [{ ids: [web] }] }],
    rows: [{ from: '/team/x', allowed: true, by: 'default' }]
  },
  {
    name: 'a rule in shadow mode decides nothing',
    rules: [{ name: 'yes', action: 'allow', from: [{ ids: [web] }] }],
    more: [{ kind: 'Policy', name: 's', mode: 'shadow', rules: [{ name: 'no', action: 'deny' }] }],
    rows: [{ from: '/web', allowed: true, by: 'p/yes' }]
  },
  {
    name: 'times, which Envoy has no words for',
    external: true,
    rules: [
      { name: 'then', action: 'allow', when: [{ time: { notBefore: '2026-01-01T00:00:00Z', notAfter: '2027-01-01T00:00:00Z' } }] },
      { name: 'at-night', action: 'deny', to: [{ methods: ['PUT'] }], when: [{ notTime: { days: ['sun'], from: '22:00', to: '13:00' } }] },
      { name: 'never', action: 'deny', from: [{ ids: ['spiffe://own.test/late'] }], when: [{ time: { notBefore: '2026-06-01T00:00:00Z' } }] }
    ],
    // A Monday at noon.
    rows: [
      { from: '/web', allowed: true, by: 'p/then' }, { from: '/late', allowed: false, by: 'p/never' },
      { from: '/web', method: 'PUT', allowed: true, by: 'p/then' }
    ]
  }
]
