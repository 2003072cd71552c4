import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { builtInPolicy } from '../../../src/authz/apipolicy/evaluator.ts'
import { openRegoPolicy } from '../../../src/authz/apipolicy/open-rego-policy.ts'
import { requestDocument } from '../../../src/authz/apipolicy/request-document.ts'
import { serverApiPolicy } from '../../../src/authz/server-api-policy.ts'
import { systemClock as clock } from '../../../src/runtime/clock.ts'
import { parseTrustDomain } from '../../../src/spiffe/trust-domain.ts'
import { changedFixture } from '../rego/fixture.ts'
import { makeTarGz } from '../rego/make-tar.ts'

const trustDomain = parseTrustDomain('example.org')
const teams = readFileSync(join(import.meta.dirname, 'teams/bundle.tar.gz'))
const create = '/spire.api.server.entry.v1.Entry/BatchCreateEntry'
const ask = (fullMethod: string, caller = '', req: unknown = null) => ({ caller, callerFilePath: '', fullMethod, req })
const nothing = { allow: false, allowIfAdmin: false, allowIfLocal: false, allowIfDownstream: false, allowIfAgent: false }

async function open (data: object | string | undefined, bytes: Uint8Array = teams) {
  const scope = new AsyncDisposableStack()
  t.teardown(() => scope.disposeAsync())
  const text = typeof data === 'string' ? data : JSON.stringify(data)
  return await openRegoPolicy({ bundle: { name: 'p.tar.gz', bytes }, data: data === undefined ? undefined : { name: 'p.json', text } },
    { trustDomain, clock }, scope)
}

void t.test('any policy for SPIRE decides by caller, method, request and its data', async t => {
  const red = 'spiffe://example.org/ci/red'
  const { evaluator, warnings } = await open({ teams: { [red]: '/red/' } })
  t.same(warnings, [])
  t.ok(evaluator.wantsRequest)
  const entries = (...paths: string[]) => ({ entries: paths.map(path => ({ spiffe_id: { trust_domain: 'example.org', path } })) })
  t.match(await evaluator.evaluate(ask(create, red, entries('/red/a', '/red/b'))), { allow: true })
  for (const [what, call] of Object.entries({
    'another team\'s': ask(create, red, entries('/red/a', '/blue/b')), 'none': ask(create, red, {}), 'no request': ask(create, red),
    'another caller': ask(create, 'spiffe://example.org/ci/blue', entries('/red/a')), 'nobody': ask(create, '', entries('/red/a'))
  })) t.same(await evaluator.evaluate(call), { ...nothing, allowIfAdmin: true, allowIfLocal: true }, what)
  t.same(await evaluator.evaluate(ask('/spire.api.server.entry.v1.Entry/GetAuthorizedEntries')),
    { ...nothing, allowIfAdmin: true, allowIfLocal: true, allowIfAgent: true })
  for (const method of [...serverApiPolicy.keys()].filter(method => method.startsWith('/assay.'))) {
    t.same(await evaluator.evaluate(ask(method)), await builtInPolicy.evaluate(ask(method)), `${method}: not SPIRE's, so as ever`)
  }
})

void t.test('a policy that opens the API is refused by what it answers, however it is written', async t => {
  const tooOpen = (message: RegExp) => ({ code: 'policy_too_open', message })
  await t.rejects(open({ open: 'everybody' }), tooOpen(/^p\.tar\.gz: .*whoever reaches the port/), 'to everybody')
  await t.rejects(open({ open: 'members' }), tooOpen(/whoever reaches the port/), 'to each member of the trust domain')
  await t.rejects(open({ open: 'agents' }), tooOpen(/Entry\/BatchCreateEntry: it would make each/), 'writing, to each agent')
})

void t.test('what cannot be asked, or gives no whole answer', async t => {
  const { evaluator, warnings } = await open({ silent: create })
  t.match(warnings, [/not whole for 1 methods, among them .*BatchCreateEntry: calls of them fail/])
  await t.rejects(async () => await evaluator.evaluate(ask(create)), { code: 'rego_evaluation_failed', message: /result is undefined/ })
  await t.rejects(open({}, await changedFixture({})), { code: 'rego_bundle_invalid', message: /opa build -t wasm -e spire\/result/ })
  const source = makeTarGz([{ path: 'p.rego', content: 'package spire\ndefault allow := true' }])
  await t.rejects(open({}, source), { code: 'rego_bundle_invalid', message: /no policy\.wasm/ })
  await t.rejects(open('[]'), { code: 'policy_malformed', message: /^p\.json: / })
  await t.rejects(open('{"a": 1, "a": 2}'), { code: 'policy_malformed' })
})

void t.test('a request is seen as SPIRE shows it: names with underscores, no defaults, bytes in base64', async t => {
  t.equal(requestDocument(undefined), null)
  t.same(requestDocument({
    entries: [{
      spiffeId: { trustDomain: 'a', path: '' }, x509SvidTtl: 60, expiresAt: 5n, admin: false, dnsNames: [], selectors: undefined, hint: ''
    }],
    outputMask: {}, csr: Buffer.from('x'), empty: Buffer.alloc(0)
  }), { entries: [{ spiffe_id: { trust_domain: 'a' }, x509_svid_ttl: 60, expires_at: 5 }], output_mask: {}, csr: 'eA==' })
})
