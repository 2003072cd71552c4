import t from 'tap'
import { createServer } from 'node:http'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { runAssay } from '../fakes/run-assay.ts'

const settings = 'apiVersion: assay/v1\nkind: Settings\ntrustDomain: own.test\ndefaultAction: deny\n'
const policy = `apiVersion: assay/v1
kind: Policy
name: orders
workloads: { ids: [spiffe://own.test/orders] }
rules:
- name: read
  action: allow
  from: [{ ids: [spiffe://own.test/web] }]
  to: [{ methods: [GET], paths: [/v1/*] }]
- name: no-admin
  action: deny
  to: [{ paths: [/v1/admin*], ports: [8080] }]
`
const tests = `apiVersion: assay/v1
kind: PolicyTest
name: orders
tests:
- name: web may read
  request: { from: spiffe://own.test/web, to: spiffe://own.test/orders, port: 8080, method: GET, path: [/v1/a, /v1/b] }
  expect: { verdict: allow, rule: orders/read }
- name: nobody else may
  request: { from: [none, spiffe://own.test/db], to: spiffe://own.test/orders, port: 8080, method: [GET, POST], path: /v1/a }
  expect: { verdict: deny, reason: no-rule-allows }
`
type Json = Record<string, unknown>
const json = (text: string) => JSON.parse(text) as Json

async function folderWith (t: Tap, files: Readonly<Record<string, string | Uint8Array>>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'assay-policy-'))
  t.teardown(() => rm(folder, { recursive: true }))
  for (const [name, content] of Object.entries(files)) {
    await mkdir(join(folder, name, '..'), { recursive: true })
    await writeFile(join(folder, name), content)
  }
  return folder
}
type Tap = Pick<typeof t, 'teardown'>

void t.test('policy test', async t => {
  const good = await folderWith(t, { 'settings.yaml': settings, 'orders/policy.yaml': policy, 'orders/tests.yaml': tests,
    'README.md': 'no policy' })
  const run = (...words: string[]) => runAssay(['policy', 'test', ...words])
  t.match(await run(good), {
    code: 0, stdout: /^2 tests, 6 requests: all passed\n1 rule decides no request of a test: orders\/no-admin\n$/
  })
  t.match(await run(good, '-requireRules'), { code: 5 })
  const report = json((await run(good, '-output', 'json')).stdout)
  t.match(report, { tests: 2, requests: 6, failures: [], untested: ['orders/no-admin'] })

  const bad = await folderWith(t, { 'all.yaml': [settings, policy,
    tests.replace('method: [GET, POST]', 'method: [GET, POST], headers: { A: b }')
      .replace('verdict: allow, rule: orders/read', 'verdict: deny, rule: orders/no-admin')].join('---\n') })
  const failed = await run(bad)
  t.match(failed, { code: 5, stdout: /2 tests, 6 requests: 1 failed/ })
  t.match(failed.stdout, /FAILED orders: web may read \(.*all\.yaml:\d+\)\n {2}spiffe:\/\/own.test\/web to .*: GET \/v1\/a on 8080\n/)
  t.match(failed.stdout, / {2}verdict: expected deny, got allow\n {2}rule: expected orders\/no-admin, got orders\/read\n {4}ALLOWED/)
  t.match(json((await run(bad, '-output', 'json')).stdout), { failures: [{ test: 'orders: web may read',
    request: { http: { path: '/v1/a' } } }, {}] })

  t.match(await run(join(good, 'orders/policy.yaml')), { code: 2, stderr: /there are no tests/ })
  t.match(await run(await folderWith(t, { 'a.yaml': tests.replace('verdict: allow', 'verdict: maybe') })), {
    code: 2, stderr: /a\.yaml:\d+: tests\.0\.expect\.verdict: must be one of allow, deny[^]*code: policy_malformed/
  })
  t.match(await run('/does/not/exist'), { code: 2, stderr: /cannot read \/does\/not\/exist/ })
  t.match(await run(), { code: 2, stderr: /PATH\.\.\. is missing/ })
})

void t.test('tests beside policies do not change their revision', async t => {
  const revision = async (files: Record<string, string>) =>
    json((await runAssay(['policy', 'lint', await folderWith(t, files), '-output', 'json'])).stdout)['revision']
  const files = { 'a.yaml': settings, 'b.yaml': policy }
  t.equal(await revision(files), await revision({ ...files, 'c.yaml': tests }))
  t.not(await revision(files), await revision({ ...files, 'b.yaml': policy.replace('/v1/*', '/v2/*') }))
})

void t.test('can-i', async t => {
  const folder = await folderWith(t, { 'a.yaml': settings, 'b.yaml': policy })
  const ask = (...words: string[]) => runAssay(['can-i', '-policies', folder, '-to', 'spiffe://own.test/orders', '-port', '8080', ...words])
  const web = ['-from', 'spiffe://own.test/web']
  t.match(await ask(...web, '-path', '/v1/a'), { code: 0, stdout: /^ALLOWED by rule orders\/read\nrevision [0-9a-f]{64}\n$/ })
  t.match(await ask(...web, '-method', 'POST', '-path', '/v1/a'), {
    code: 5, stdout: /^DENIED by no-rule-allows\n[^]*orders\/read\n {4}to 1: method is GET; it is POST\n/
  })
  t.match(await ask('-path', '/v1/a'), { code: 5, stdout: /from 1: source\.id is spiffe:\/\/own\.test\/web; there is none/ })
  t.match(await ask(...web), { code: 5, stdout: /rule orders\/no-admin[^]*asks what nobody can know/ },
    'TCP: a deny rule about paths refuses')
  t.match(await ask('-from', 'spiffe://far.test/web', '-path', '/v1/a'), { code: 5, stdout: /^DENIED by rule federation\/far\.test\n/ })
  t.match(json((await ask(...web, '-method', 'POST', '-path', '/x', '-header', 'A: 1', '-output', 'json')).stdout), {
    decision: { allowed: false, reason: 'no-rule-allows' }, candidates: [{ rule: 'orders/read',
      failed: [{ place: 'to 1', found: ['POST'] }] }]
  })
  t.match(await ask('-header', 'nonsense'), { code: 2, stderr: /is not NAME:VALUE/ })
  t.match(await ask('-port', '1'), { code: 2, stderr: /given twice/ })
  t.match(await runAssay(['can-i', '-from', 'spiffe://own.test/web', '-socketPath', '/does/not/exist.sock']),
    { code: 1, stderr: /cannot reach the server at \/does\/not\/exist\.sock/ }, 'without -policies the server is asked')
  t.match(await runAssay(['can-i', '-entries', 'x.json']), { code: 2, stderr: /-entries is for -policies/ })
})

void t.test('policy lint', async t => {
  const folder = await folderWith(t, { 'a.yaml': settings, 'b.yaml': `${policy}- name: again
  action: allow
  from: [{ ids: [spiffe://own.test/web] }]
  to: [{ methods: [GET], paths: [/v1/a] }]
- name: gone
  action: allow
  from: [{ ids: [spiffe://far.test/x] }]
` })
  const entries = JSON.stringify({ entries: [{ spiffe_id: { trust_domain: 'own.test', path: '/web' },
    selectors: [{ type: 'unix', value: 'uid:1' }] }] })
  await writeFile(join(folder, 'entries.txt'), entries)
  const run = (...words: string[]) => runAssay(['policy', 'lint', folder, ...words])
  t.match(await run(), {
    code: 5, stdout: /b\.yaml:17: orders\/gone: error: callers of far\.test are refused[^]*b\.yaml:13: orders\/again: warning: orders\/read/
  })
  t.match(await run('-ignore', 'not-federated'), { code: 0, stdout: /shadowed/ })
  t.match(await run('-ignore', 'not-federated', '-failOn', 'warning'), { code: 5 })
  t.match(await run('-failOn', 'never'), { code: 0 })
  const { findings } = json((await run('-output', 'json', '-entries', join(folder, 'entries.txt'))).stdout) as { findings: Json[] }
  t.match(findings.map(({ code, about, severity }) => [code, about, severity]), [
    ['not-federated', 'orders/gone', 'error'], ['shadowed', 'orders/again', 'warning'], ['nobody-registered', 'orders/read', 'warning']
  ])
})

const event = (id: string, from: string, path: string, allowed: boolean) => JSON.stringify({
  labels: { id: 'a' }, decision_id: `decision-${id}`, bundles: { assay: { revision: 'r1' } }, timestamp: '2026-01-01T00:00:00.000Z',
  input: {
    source: { id: from }, destination: { id: 'spiffe://own.test/orders', port: 8080 }, time: '2026-01-01T00:00:00.000Z',
    http: { method: 'GET', path, host: 'orders', headers: {} }
  },
  result: { allowed, reason: allowed ? 'rule' : 'no-rule-allows', rule: allowed ? 'orders/read' : undefined },
  erased: ['/input/http/headers/authorization'], custom: { request_id: `request-${id}` }
})
const log = [event('1', 'spiffe://own.test/web', '/v1/a', true), event('2', 'spiffe://own.test/web', '/v2/a', false),
  event('3', 'spiffe://own.test/web', '/v1/a', true), 'torn {', ''].join('\n')

void t.test('policy diff', async t => {
  const folder = await folderWith(t, {
    'old/a.yaml': settings, 'old/b.yaml': policy, 'new/a.yaml': settings, 'new/b.yaml': policy.replace('/v1/*', '/v2/*'), 'log': log,
    'log.gz': gzipSync(log.slice(0, log.indexOf('torn')))
  })
  const at = (name: string) => join(folder, name)
  const run = (...words: string[]) => runAssay(['policy', 'diff', at('old'), at('new'), '-against', at('log'), ...words])
  t.match(await run(), {
    code: 5, stdout: new RegExp(['3 requests compared, 3 of them answered otherwise: 2 flips',
      'spiffe://own.test/web +spiffe://own.test/orders +GET /v1/a on 8080 +allow \\(orders/read\\) +deny \\(no-rule.*\\) +2 +decision-1',
      'GET /v2/a on 8080 +deny \\(no-rule-allows\\) +allow \\(orders/read\\) +1 +decision-2', 'Note: 1 lines are no decision'].join('[^]*'))
  })
  t.match(await runAssay(['policy', 'diff', at('old'), at('old'), '-against', at('log')]), { code: 0, stdout: /0 flips/ })
  const report = json((await run('-output', 'json')).stdout)
  t.match(report, { compared: 3, flipped: 3, unreadable: 1, flips: [{ before: 'allow', after: 'deny', count: 2 },
    { before: 'deny', count: 1 }] })

  const signoff = (revision: unknown, more: string, flips: string) =>
    `apiVersion: assay/v1\nkind: FlipSignoff\nrevision: ${String(revision)}\n` +
    `reviewers: [ann]\n${more}flips:\n${flips}`
  const one = '- { source: spiffe://own.test/*, destination: spiffe://own.test/orders, operation: GET /v1/*, before: allow, after: deny }\n'
  const two = '- { source: spiffe://own.test/web, destination: "*", operation: "*", before: deny, after: allow }\n'
  const signed = async (text: string, against = 'log') => {
    await writeFile(at('signoff.yaml'), text)
    return runAssay(['policy', 'diff', at('old'), at('new'), '-against', at(against), '-signoff', at('signoff.yaml')])
  }
  t.match(await signed(signoff(report['after'], 'acceptUncompared: true\n', one + two)),
    { code: 0, stdout: /2 flips, 0 of them not signed off/ })
  t.match(await signed(signoff(report['after'], '', one + two)), { code: 5, stdout: /Not signed: 1 requests could not be compared/ })
  t.match(await signed(signoff(report['after'], '', one + two), 'log.gz'), { code: 0 }, 'from gzip, where all could be')
  t.match(await signed(signoff(report['after'], 'acceptUncompared: true\n', one)),
    { code: 5, stdout: /1 of them not signed off[^]*\/v2\/a/ })
  t.match(await signed(signoff(`"${'0'.repeat(64)}"`, 'acceptUncompared: true\n', one + two)),
    { code: 5, stdout: /nothing is signed for the revision/ })
  t.match(await signed(signoff('abc', '', one)), { code: 2, stderr: /signoff\.yaml:3: revision: must be the revision/ })
  t.match(await signed(policy), { code: 2, stderr: /no document of the kind FlipSignoff/ })
  t.match(await run('-against', 'x'), { code: 2 })
  t.match(await runAssay(['policy', 'diff', at('old'), at('new'), '-against', at('nothing')]), { code: 2, stderr: /cannot read/ })
  t.match(await runAssay(['policy', 'diff', at('old'), at('new'), '-against', at('nothing.gz')]), { code: 2, stderr: /cannot read/ })
  t.match(await runAssay(['policy', 'diff']), { code: 2, stderr: /\[OLD\] NEW is missing/ })
  t.match(await runAssay(['policy', 'diff', at('old'), '-socketPath', '/does/not/exist.sock']),
    { code: 1, stderr: /cannot reach the server/ })
  t.match(await runAssay(['policy', 'diff', at('old'), at('old')]), { code: 0, stdout: 'The documents say the same\n' })
  t.match(await runAssay(['policy', 'diff', at('old'), at('new')]), {
    code: 5, stdout: '1 document differs:\n~ Policy orders\n  rules.read.to.0.paths: - "/v1/*"\n  rules.read.to.0.paths: + "/v2/*"\n'
  })
  t.match(await runAssay(['policy', 'diff', at('old'), at('new'), '-signoff', 'x']), { code: 2, stderr: /-signoff is for -against/ })
})

void t.test('why-denied', async t => {
  const folder = await folderWith(t, { 'a.yaml': settings, 'b.yaml': policy, 'decisions.log': log })
  const run = (...words: string[]) => runAssay(['why-denied', ...words])
  const file = ['-log', join(folder, 'decisions.log')]
  t.match(await run('request-2', ...file), {
    code: 0, stdout: /Decision +: DENIED\nBy +: no rule: there are allow rules[^]*GET \/v2\/a on 8080[^]*Masked +: \/input\/.*authorization/
  })
  t.match(await run('decision-2', ...file, '-policies', join(folder, 'b.yaml')), {
    code: 0, stdout: /which are of another revision:\n {2}DENIED by no-rule-allows\n[^]*to 1: path is \/v1\/\*; it is \/v2\/a/
  })
  t.match(json((await run('request-1', ...file, '-output', 'json')).stdout), { decisions: [{ event: { decision_id: 'decision-1' } }] })
  t.match(await run('request-9', ...file), { code: 1, stderr: /no decision of the request "request-9"[^]*decision_not_found/ })
  t.match(await run('request-1'), { code: 2, stderr: /one of -log, -dataApi and -agent/ })

  const asked: (string | undefined)[] = []
  const server = createServer(({ url }, response) => {
    asked.push(url)
    if (url?.includes('broken')) response.end('{}')
    else response.end(JSON.stringify({ decisions: url?.endsWith('=request-2') ? [JSON.parse(event('2', 'spiffe://own.test/web', '/v2/a',
      false))] : [],
    remembered: { capacity: 10 } }))
  }).listen(0, '127.0.0.1')
  t.teardown(() => { server.closeAllConnections(); server.close() })
  await once(server, 'listening')
  const api = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  t.match(await run('request-2', '-dataApi', api), { code: 0, stdout: /DENIED/ })
  t.match(await run('a&b', '-dataApi', api), { code: 1, stderr: /decision_not_found/ })
  t.same(asked, ['/v1/assay/decisions?request=request-2', '/v1/assay/decisions?request=a%26b'])
  t.match(await run('broken', '-dataApi', api), { code: 1, stderr: /message_malformed/ })
  t.match(await run('x', '-dataApi', 'http://127.0.0.1:1'), { code: 1, stderr: /server_unreachable/ })
  t.match(await run('x', '-dataApi', 'ftp://x'), { code: 2, stderr: /is no URL/ })
})
