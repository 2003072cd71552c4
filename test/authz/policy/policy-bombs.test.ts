import t from 'tap'
import { foreignKinds } from '../../../src/authz/policy/foreign-kinds.ts'
import { PolicyEngine } from '../../../src/authz/policy/policy-engine.ts'
import { readPolicies } from '../../../src/authz/policy/read-policies.ts'
import type { AuthzRequest } from '../../../src/authz/policy/request.ts'
import { parseSpiffeId } from '../../../src/spiffe/spiffe-id.ts'
import { policiesOf } from '../rbac/policies-of.ts'

const rule = (text: string) => `apiVersion: assay/v1\nkind: Policy\nname: p\nrules:\n- { name: r, action: allow, ${text} }\n`
const nested = (open: string, close: string, depth = 200_000) => open.repeat(depth) + close.repeat(depth)
const laughs = ['a: &a [x, x, x, x, x, x, x, x, x, x]', ...Array.from({ length: 9 }, (_, i) => {
  const [name, before] = ['bcdefghij'[i], 'abcdefghi'[i]]
  return `${name}: &${name} [${Array.from({ length: 10 }, () => `*${before}`).join(', ')}]`
})].join('\n')

t.test('documents made to burst whoever reads them are refused, and not by dying', t => {
  const bombs: Record<string, string> = {
    'lists in lists': nested('[', ']'),
    'maps in maps': nested('{"a":', '}').replace(':}', ':1}'),
    'lists in lists that are not closed': '['.repeat(200_000),
    'lists in lists in a policy': rule(`from: ${nested('[', ']', 50_000)}`),
    'lists by dashes': Array.from({ length: 2_000 }, (_, i) => `${'  '.repeat(i)}-`).join('\n'),
    'aliases of aliases': laughs,
    'an alias of itself': 'a: &a [*a]',
    'a tag that runs something': 'a: !!js/function "() => process.exit()"',
    'CEL': rule('when: [{ cel: "request.path.matches(\'(a+)+$\')" }]'),
    'a regular expression for a path': rule('to: [{ paths: ["~^/(a+)+$"] }]'),
    'a regular expression in braces': rule('to: [{ paths: ["/{(a+)+}"] }]'),
    'stars in the middle': rule('to: [{ paths: ["/a*b*c*d"] }]'),
    'many operators for all the rest': rule('to: [{ paths: ["/{**}/{**}/{**}/{**}/x"] }]'),
    'a value too long': rule(`to: [{ paths: ["/${'a'.repeat(2_048)}"] }]`),
    'a list too long': rule(`to: [{ ports: [${Array.from({ length: 1_001 }, (_, i) => i + 1).join()}] }]`),
    'a claim too deep': rule(`when: [{ claim: { path: [${Array.from({ length: 1_001 }, () => 'a').join()}], values: [x] } }]`),
    'a key of every object': rule('__proto__: { allow: true }'),
    'Istio, in lists': `apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: ${nested('[', ']', 50_000)}`
  }
  for (const [what, text] of Object.entries(bombs)) {
    t.throws(() => readPolicies([{ name: 'bomb', text }], { foreign: foreignKinds }), { code: 'policy_malformed' }, what)
  }
  t.end()
})

t.test('what is like a regular expression is text, and no request makes a rule slow', t => {
  const engine = new PolicyEngine(policiesOf([
    { name: 'text', action: 'allow', to: [{ headers: [{ name: 'x', values: ['(a+)+$', '*aaaaaaaaaaaaaaaa!'] }] }] },
    { name: 'template', action: 'allow', to: [{ paths: [`/${'{*}/'.repeat(400)}{**}/end`, '/a/{**}/b/c'] }] }
  ]))
  const ask = (path: string, x: string): AuthzRequest => ({
    source: {}, destination: { id: parseSpiffeId('spiffe://own.test/db') }, time: new Date(0),
    http: { method: 'GET', path, host: '', headers: new Map([['x', x]]) }
  })
  t.equal(engine.decide(ask('/', '(a+)+$')).rule, 'p/text')
  const began = process.cpuUsage()
  for (const path of [`/${'a/'.repeat(30_000)}end`, `/a${'/b'.repeat(30_000)}`, `/${'%61'.repeat(20_000)}`, `/${'%2'.repeat(30_000)}`,
    '/'.repeat(60_000)]) {
    t.type(engine.decide(ask(path, 'a'.repeat(60_000))).allowed, 'boolean')
  }
  t.ok(process.cpuUsage(began).user < 5_000_000, 'its microseconds are far below what a caller waits')
  t.end()
})
