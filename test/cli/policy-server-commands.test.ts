import { mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { commandTree } from '../../src/cli/command-tree.ts'
import { runCli } from '../../src/cli/run-cli.ts'
import { eventually } from '../fakes/eventually.ts'
import { startFollowingAgent } from '../fakes/following-agent.ts'
import { policyText, selectorPolicyText } from '../fakes/policies.ts'
import { makeTarGz } from '../authz/rego/make-tar.ts'
import { askingText, ordersBundle } from '../authz/rego/pushed.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { startTestServer, type TestServer } from '../fakes/server.ts'
import { createTestTerminal } from '../fakes/terminal.ts'
import { waitLonger } from '../fakes/wait-longer.ts'

function on ({ config }: Pick<TestServer, 'config'>) {
  return (...words: readonly string[]) => runAssay(['policy', ...words, '-socketPath', config.socketPath])
}

const json = (text: string) => JSON.parse(text) as Record<string, unknown>

/** A folder with these files. */
async function folderOf (t: Test, files: Readonly<Record<string, string>>): Promise<string> {
  const folder = t.testdir()
  for (const [name, text] of Object.entries(files)) {
    await mkdir(join(folder, name, '..'), { recursive: true })
    await writeFile(join(folder, name), text)
  }
  return folder
}

t.test('policies are applied, shown, listed and rolled back', async t => {
  await using server = await startTestServer()
  const assay = on(server)
  t.match(await assay('history'), { code: 0, stdout: 'No policies were ever applied\n' })
  t.match(await assay('show'), { code: 1, stderr: /no policies were ever applied\n {2}code: policy_version_not_found/ })
  const folder = await folderOf(t, {
    'b.yml': policyText('b'),
    'a.yaml': `---\n${policyText('a')}`,
    'below/c.json': JSON.stringify([{ apiVersion: 'assay/v1', kind: 'Policy', name: 'c', rules: [{ name: 'r', action: 'deny' }] }]),
    'README.md': 'no policy', '.hidden.yaml': 'neither'
  })
  t.match(await assay('apply', folder, '-dryRun'),
    { code: 0, stdout: /^Would become version 1: 3 rules of 3 files, revision [0-9a-f]{12}\n$/ })
  t.match(await assay('apply', folder, '-comment', 'the first'),
    { code: 0, stdout: /^Version 1 is active: 3 rules of 3 files, revision [0-9a-f]{12}\n$/ })
  t.match(await assay('apply', folder), { code: 0, stdout: /^Version 1 is active already: / })
  const single = join(folder, 'b.yml')
  const applied = await assay('apply', single, '-output', 'json')
  t.match(json(applied.stdout), { version: { number: '2', parent: '1', rules: 1, documents: 1 }, unchanged: false })

  const history = await assay('history')
  const rows = history.stdout.split('\n')
  t.match(rows[0], /^VERSION +APPLIED +BY +RULES +FILES +REPLACED +REVISION +COMMENT$/)
  t.match(rows[1], /^2 \* +.* +local uid \d+ +1 +1 +1 +[0-9a-f]{12}$/)
  t.match(rows[2], /^1 +.* +local uid \d+ +3 +3 +- +[0-9a-f]{12} +the first$/)
  t.match(json((await assay('history', '-output', 'json')).stdout), { versions: [{ number: '2' }, { number: '1', comment: 'the first' }] })

  t.match(await assay('rollback', '1'), { code: 0, stdout: /^Version 3 is active in place of version 2: 3 rules of 3 files/ })
  const shown = await assay('show')
  const head = /^Version +: 3\nReplaced +: 2\nApplied +: .*\nBy +: local uid \d+\nComment +: back to version 1\nHolds +: 3 rules of 3 /
  t.match(shown.stdout, head)
  t.match(json((await assay('show', '-version', '2', '-output', 'json')).stdout),
    { version: { number: '2' }, documents: [{ name: 'b.yml', text: policyText('b') }] })
  const yaml = (await assay('show', '-output', 'yaml')).stdout
  await writeFile(join(folder, 'again.yaml'), yaml)
  t.match(await assay('apply', join(folder, 'again.yaml')), { code: 0, stdout: /3 rules of 1 file/ }, 'what is shown can be applied again')
})

t.test('what is broken, or in somebody\'s way, changes nothing', async t => {
  await using server = await startTestServer()
  const assay = on(server)
  const misspelt = policyText('bad').replace('allow', 'alow')
  const folder = await folderOf(t, { 'good.yaml': policyText('good'), 'bad.yaml': misspelt, 'worse.yaml': 'a: [' })
  const broken = await assay('apply', folder)
  t.match(broken, { code: 2, stderr: /bad\.yaml:6: rules\.0\.action/ })
  t.match(broken, { stderr: /worse\.yaml:1/ }, 'every problem at once')
  t.match(await assay('history'), { stdout: 'No policies were ever applied\n' })
  const good = join(folder, 'good.yaml')
  t.match(await assay('apply', good, '-replaces', '3'), {
    code: 1, stderr: /no version is active, and version 3 was to be replaced\n {2}code: policy_conflict/
  })
  await assay('apply', good, '-replaces', '0')
  t.match(await assay('apply', good, '-replaces', '0', '-output', 'json'), { code: 1 })
  t.match(await assay('rollback', '1', '-replaces', '7'), { code: 1, stderr: /policy_conflict/ })
  t.match(await assay('rollback', '9'), { code: 1, stderr: /policy_version_not_found/ })
  t.match(json((await assay('history', '-output', 'json')).stdout), { versions: { length: 1 } })
})

t.test('wrong usage', async t => {
  const empty = await folderOf(t, { 'README.md': '' })
  const good = join(empty, 'a.yaml')
  const cases: [string[], RegExp][] = [
    [['apply'], /PATH\.\.\. is missing/],
    [['apply', empty], /there is no \*\.yaml, \*\.yml or \*\.json in/],
    [['apply', join(empty, 'missing.yaml')], /missing\.yaml: no such file/],
    [['apply', good, '-watch', '-dryRun'], /-watch and -dryRun exclude each other/],
    [['apply', good, '-watch', '-replaces', '1'], /-watch and -replaces exclude each other/],
    [['rollback'], /N is missing/],
    [['rollback', 'last'], /"last" is no version/],
    [['show', '-version', '0'], /must be a whole number of at least 1/]
  ]
  for (const [words, stderr] of cases) {
    t.match(await runAssay(['policy', ...words, '-socketPath', '/nowhere']), { code: 2, stderr }, words.join(' '))
  }
})

t.test('agents are waited for, and one that does not serve the set is named', async t => {
  await using server = await startTestServer()
  const assay = on(server)
  const folder = await folderOf(t, { 'a.yaml': policyText('a'), 'b.yaml': policyText('b') })
  const [a, b] = [join(folder, 'a.yaml'), join(folder, 'b.yaml')]
  await using plain = await startFollowingAgent(server)
  plain.mute()
  t.match(await assay('apply', a, '--wait'), { code: 0, stdout: /\nno live agent is concerned after [\dms]+\n$/ })
  await using agent = await startFollowingAgent(server, { policies: true })
  const has = new RegExp(`\n1 of 1 live agent has it after .*\nacknowledged  ${agent.spiffeId}\n$`)
  t.match(await assay('apply', b, '--wait'), { code: 0, stdout: has })
  const status = await runAssay(['status', '-socketPath', server.config.socketPath])
  t.match(status.stdout, / SEEN +POLICIES +WITHOUT SVID\n/)
  t.match(status.stdout, new RegExp(`${agent.spiffeId} .* 2\n`))
  agent.refusePolicies('version 3: of a newer form')
  // It may be slower than a short wait to say so.
  const refused = await waitLonger((...words) => assay('rollback', '1', '--wait', ...words), /^acknowledged/m)
  t.match(refused, { code: 3, stdout: /0 of 1 live agent have it / })
  t.match(refused.stdout, /\nacknowledged .* serves version 2 of the policies, refused version 3: of a newer form\n/)
  const after = await runAssay(['status', '-socketPath', server.config.socketPath])
  t.match(after.stdout, /2 \(newer refused\)\n/)
  t.match(after.stdout, new RegExp(`\n${agent.spiffeId} does not serve policies: version 3: of a newer form\n`))
})

t.test('a folder is kept applied: the whole of it, or the last good one', async t => {
  await using server = await startTestServer()
  const assay = on(server)
  const folder = await folderOf(t, { 'one/a.yaml': policyText('a'), 'one/b.yaml': policyText('b'), 'two/c.yaml': policyText('c') })
  const link = join(folder, 'current')
  await symlink('one', link)
  const told = createTestTerminal()
  const running = runCli(commandTree, ['policy', 'apply', link, '-watch', '-socketPath', server.config.socketPath], told)
  await eventually('the folder is active', () => /Version 1 is active: 2 rules/.test(told.stdout))
  await writeFile(join(folder, 'one/a.yaml'), 'kind: Nonsense')
  await eventually('it says what is broken', () => told.stderr.includes('What is active stays'))
  t.match(told.stderr, /a\.yaml/)
  t.match(json((await assay('history', '-output', 'json')).stdout), { versions: { length: 1 } })
  await writeFile(join(folder, 'one/a.yaml'), policyText('a2'))
  await eventually('it is mended', () => /Version 2 is active in place of version 1/.test(told.stdout))
  await assay('rollback', '1')
  await symlink('two', `${link}.new`)
  await rename(`${link}.new`, link)
  await eventually('another folder in its place', () => /Version 4 is active in place of version 3: 1 rule of 1 file/.test(told.stdout))
  await rm(join(folder, 'two/c.yaml'))
  await eventually('an empty folder is no wish', () => /there is no \*\.yaml/.test(told.stderr))
  told.stop()
  t.equal(await running, 1, 'what the files said last is not active')
  t.match(json((await assay('show', '-output', 'json')).stdout), { version: { number: '4' } })
})

const rule = (path: string) => `apiVersion: assay/v1
kind: Policy
name: orders
workloads: { ids: [spiffe://example.org/orders] }
rules:
- { name: read, action: allow, from: [{ ids: [spiffe://example.org/web] }], to: [{ paths: [${path}] }] }
`

t.test('a set whose answers differ from what is active is applied once somebody has signed for that', async t => {
  await using server = await startTestServer()
  const assay = on(server)
  const event = (id: string, path: string) => JSON.stringify({
    labels: { id: 'a' }, decision_id: id, bundles: { assay: { revision: 'r1' } }, timestamp: '2026-01-01T00:00:00.000Z',
    input: {
      source: { id: 'spiffe://example.org/web' }, destination: { id: 'spiffe://example.org/orders', port: 8080 },
      time: '2026-01-01T00:00:00.000Z', http: { method: 'GET', path, host: 'orders', headers: {} }
    },
    result: { allowed: true, reason: 'rule', rule: 'orders/read' }
  })
  const folder = await folderOf(t, {
    'old.yaml': rule('/v1/*'), 'new.yaml': rule('/v2/*'), 'same.yaml': `# As it was.\n${rule('/v1/*')}`, 'log': `${event('1', '/v1/a')}\n`
  })
  const at = (name: string) => join(folder, name)
  const apply = (name: string, ...words: string[]) => assay('apply', at(name), '-requireSignoff', '-against', at('log'), ...words)
  t.match(await apply('old.yaml'), { code: 0, stdout: /Version 1 is active/ }, 'where nothing was active, nothing was refused')
  t.match(await apply('same.yaml'), { code: 0, stdout: /Version 2 is active/ }, 'what answers alike needs nobody')
  const refused = await apply('new.yaml', '-output', 'json')
  t.match(refused, { code: 1, stderr: /policy_not_signed_off/ })
  t.match((await assay('history')).stdout, /^2 \*/m, 'and what was active stays')
  const revision = /revision ([0-9a-f]{64})/.exec(refused.stderr)?.[1]
  const signed = (operation: string) => writeFile(at('signoff'), `apiVersion: assay/v1
kind: FlipSignoff
revision: "${revision}"
reviewers: [ann]
flips:
- { source: spiffe://example.org/web, destination: spiffe://example.org/orders, operation: ${operation}, before: allow, after: deny }
`)
  await signed('GET /v3/*')
  t.match(await apply('new.yaml', '-signoff', at('signoff')), { code: 1, stderr: /GET \/v1\/a.*: allow becomes deny/ },
    'nor by a signature for others')
  await signed('GET /v1/*')
  t.match(await apply('new.yaml', '-signoff', at('signoff')), { code: 0, stdout: /Version 3 is active/ })
  for (const words of [['-requireSignoff'], ['-against', at('log')], ['-requireSignoff', '-against', at('log'), '-watch']]) {
    t.match(await assay('apply', at('new.yaml'), ...words), { code: 2 }, words.join(' '))
  }
})

t.test('a RegoBundle by file is put into the set; what is not compiled is refused with the command, or compiled by -opa', async t => {
  await using server = await startTestServer()
  const assay = on(server)
  const document = (file: string) => `apiVersion: assay/v1\nkind: RegoBundle\nname: orders\nfile: ${file}\nentrypoints: [orders/allow]\n`
  const folder = await folderOf(t, {
    'set/b.yaml': document('../rego/orders.tar.gz'), 'set/db.json': askingText(),
    'rego/source/orders.rego': 'package orders\ndefault allow := true\n'
  })
  await writeFile(join(folder, 'rego/orders.tar.gz'), ordersBundle)
  const set = join(folder, 'set')
  t.match(await assay('apply', set), { code: 0, stdout: /^Version 1 is active: 3 rules of 2 files/ })
  const shown = new RegExp(`"bundle": "${ordersBundle.length} bytes; --output yaml has them"`)
  t.match((await assay('show')).stdout, shown, 'nobody reads base64')
  await writeFile(join(folder, 'again.yaml'), (await assay('show', '-output', 'yaml')).stdout)
  t.match(await assay('apply', join(folder, 'again.yaml')), { code: 0, stdout: /^Version 2 is active/ }, 'what is shown can be applied')

  const apply = async (file: string, ...words: readonly string[]) => {
    await writeFile(join(set, 'b.yaml'), file)
    return await assay('apply', set, ...words)
  }
  const source = join(folder, 'rego/source')
  t.match(await apply(document('../rego/source')), {
    code: 1, stderr: new RegExp(`run \`opa build -t wasm -e orders/allow -b ${source} -o bundle\\.tar\\.gz\``)
  })
  await writeFile(join(folder, 'rego/raw.tar.gz'), makeTarGz([{ path: 'orders.rego', content: 'package orders' }]))
  t.match(await apply(document('../rego/raw.tar.gz')), { code: 1, stderr: /run `opa build .*raw\.tar\.gz/ }, 'without policy.wasm')
  t.match(await apply(document('gone.tar.gz')), { code: 2, stderr: /cannot read .*gone\.tar\.gz/ })
  const two = `${document('../rego/orders.tar.gz')}---\n${policyText('x')}`
  t.match(await apply(two), { code: 2, stderr: /must be the only document of its text/ })
  t.match(await apply(document('../rego/orders.tar.gz'), '-watch', '-opa', 'opa'), { code: 2, stderr: /exclude each other/ })
  const opa = process.env['OPA_ENVOY_BIN']
  if (opa === undefined) t.pass('compiling itself', { skip: 'OPA_ENVOY_BIN names no opa' })
  else t.match(await apply(document('../rego/source'), '-opa', opa), { code: 0, stdout: /^Version 3 is active/ })
})

t.test('questions about policies in files are asked about the active ones too, with who is registered', async t => {
  await using server = await startTestServer()
  const ask = (...words: readonly string[]) => runAssay([...words, '-socketPath', server.config.socketPath])
  const [web, db] = ['spiffe://example.org/web', 'spiffe://example.org/db']
  const mayWeb = (...more: readonly string[]) => ask('can-i', '-from', web, '-to', db, ...more)
  t.match(await mayWeb(), { code: 1, stderr: /no policies were ever applied\n {2}code: policy_version_not_found/ })
  const folder = await folderOf(t, {
    'policies/a.yaml': selectorPolicyText('shop', 'unix:uid:1000'),
    'policies/tests.yaml': JSON.stringify({ apiVersion: 'assay/v1', kind: 'PolicyTest', name: 't', tests: [
      { name: 'web', request: { from: web, to: db }, expect: { verdict: 'allow', rule: 'shop/callers' } }
    ] }),
    'next/a.yaml': policyText('shop')
  })
  t.match(await ask('policy', 'apply', join(folder, 'policies/a.yaml')), { code: 0 })
  t.match(await mayWeb(), { code: 5, stdout: /^DENIED by no-rule-allows/ }, 'nobody has the selector')
  t.match(await ask('policy', 'lint'), { code: 0, stdout: /a\.yaml:6: shop\/callers: warning: [^]*code: nobody-registered/ })
  t.match(await ask('policy', 'test', '-active', join(folder, 'policies')), { code: 5, stdout: /1 failed/ })
  t.match(await ask('entry', 'create', '-parentID', 'spiffe://example.org/node', '-spiffeID', web, '-selector', 'unix:uid:1000'), { code: 0 })
  t.match(await mayWeb(), { code: 0, stdout: /^ALLOWED by rule shop\/callers/ })
  t.match(await ask('policy', 'test', '-active', join(folder, 'policies')), { code: 0, stdout: /all passed/ })
  t.notMatch((await ask('policy', 'lint')).stdout, /unix:uid:1000/)

  t.match(await ask('policy', 'diff', join(folder, 'policies')), { code: 0, stdout: 'The documents say the same\n' })
  t.match(await ask('policy', 'diff', join(folder, 'next')), {
    code: 5, stdout: [
      '1 document differs:', '~ Policy shop', '  rules.callers.from.0.selectors: - ["unix:uid:1000"]',
      '  rules.callers.from.0.ids: + ["spiffe://example.org/web"]', ''
    ].join('\n')
  })
  t.match(json((await ask('policy', 'diff', join(folder, 'next'), '-output', 'json')).stdout),
    { documents: [{ document: 'Policy shop', change: 'changed' }] })
  t.match(await ask('policy', 'lint', '-entries', 'x'), { code: 2, stderr: /the server knows its own/ })
})
