import t from 'tap'
import { parseServerConfig, serverConfigWarnings } from '../../../src/server/server-config.ts'

const base = 'server:\n  trust_domain: example.org\n  data_dir: /data\n'
const parse = (roles: string, more = '') => parseServerConfig({ file: { name: 'server.yaml', text: `${base}  roles: ${roles}\n${more}` } })
const whole = 'name: a, members: [spiffe://example.org/ci]'

void t.test('a role is refused that could do nothing, or that says something else than it seems', async t => {
  const refused: Record<string, readonly [string, RegExp]> = {
    'without holders': ['[{ name: a, verbs: [cluster.read] }]', /members: is required, or uids/],
    'for everybody': ['[{ name: a, members: ["*"], verbs: [cluster.read] }]', /must not be everybody/],
    'of a trust domain\'s own ID': ['[{ name: a, members: [spiffe://example.org], verbs: [cluster.read] }]', /is no workload/],
    'by half a segment': ['[{ name: a, members: ["spiffe://example.org/team*"], verbs: [cluster.read] }]', /invalid SPIFFE ID/],
    'with dots': ['[{ name: a, members: ["spiffe://example.org/team/../*"], verbs: [cluster.read] }]', /the path has the segment \.\./],
    'with a trailing slash': ['[{ name: a, members: [spiffe://example.org/team/], verbs: [cluster.read] }]', /ends with a slash/],
    'with a capital trust domain': ['[{ name: a, members: [spiffe://Example.org/team], verbs: [cluster.read] }]', /invalid SPIFFE ID/],
    'with a verb that is none': [`[{ ${whole}, verbs: [entries] }]`, /must be one of entries\.read, entries\.write/],
    'with a grant alone': [`[{ ${whole}, verbs: [entries.admin] }]`, /entries\.admin is nothing without entries\.write/],
    'that writes nowhere': [
      `[{ ${whole}, verbs: [entries.write], scope: { ids: ["*"], parents: ["*"] } }]`, /scope\.selectors: is needed for entries\.write/
    ],
    'that revokes nothing': [`[{ ${whole}, verbs: [revocations.revoke] }]`, /scope\.ids: is needed/],
    'that logs from afar': [`[{ ${whole}, verbs: [server.log] }]`, /on the admin socket only/],
    'with an unknown key': [`[{ ${whole}, verbs: [cluster.read], scopes: {} }]`, /unknown key; did you mean scope\?/],
    'with half a selector': [`[{ ${whole}, verbs: [cluster.read], scope: { selectors: ["k8s:ns:te*"] } }]`, /all that follows a colon/],
    'with half a label': [`[{ ${whole}, verbs: [cluster.read], scope: { dns_names: ["*a.internal"] } }]`, /labels before a dot/],
    'with a name twice': [`[{ ${whole}, verbs: [cluster.read] }, { ${whole}, verbs: [cluster.read] }]`, /is the name of another role/]
  }
  for (const [name, [roles, message]] of Object.entries(refused)) {
    t.throws(() => parse(roles), { code: 'config_invalid', message }, name)
  }
  t.equal(parse(`[{ ${whole}, verbs: [revocations.revoke], scope: { agents: ["*"] } }]`).roles.all.length, 1, 'nodes alone may be revoked')
})

void t.test('what a role does not narrow is warned of', async t => {
  const warnings = serverConfigWarnings(parse(
    '[{ name: a, members: ["spiffe://example.org/*"], uids: [0], verbs: [entries.write], ' +
    'scope: { ids: ["*"], parents: ["*"], selectors: ["*"] } }]',
    '  admin_ids: [spiffe://example.org/boss]\n'))
  t.match(warnings, [/boss is among admin_ids and may do all/, /role "a" is root's/, /lets every workload of this trust domain write/])
})
