import { createPrivateKey, X509Certificate } from 'node:crypto'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { parseFilesConfig } from '../../src/files/files-config.ts'
import { runFiles } from '../../src/files/run-files.ts'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { type Clock, systemClock } from '../../src/runtime/clock.ts'
import { createMetrics } from '../../src/runtime/metrics.ts'
import { encodePem } from '../../src/x509/pem.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { eventually } from '../fakes/eventually.ts'
import { TestTrustDomain } from '../fakes/identities.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { FakeAgent } from './fake-agent.ts'

const patienceMs = 60_000
const names = { svid_file_name: 'svid.pem', svid_key_file_name: 'key.pem', svid_bundle_file_name: 'bundle.pem' }

/** Waits are short: what is asked again comes in milliseconds. */
const hasty: Clock = { ...systemClock, sleep: (ms, signal) => systemClock.sleep(Math.min(ms, 20), signal) }

function folderOf (t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'assay-run-files-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

async function start (t: Test, agent: FakeAgent, keys: Readonly<Record<string, unknown>>, clock: Clock = hasty) {
  const folder = folderOf(t)
  const text = JSON.stringify({ cert_dir: folder, ...keys })
  const config = parseFilesConfig({ file: { name: 'test.json', text } })
  const { log, lines } = capturedLog()
  const channel = openUnixChannel(agent.socket, { maxBackoffMs: 200 })
  const stop = new AbortController()
  const metrics = createMetrics({ prefix: 'assay_files' })
  const ended = runFiles(config, { channel, clock, random: () => 0.5, log, metrics }, stop.signal)
  ended.catch(() => {})
  t.teardown(async () => {
    stop.abort(new Error('the test is over'))
    await ended.catch(() => {})
    await channel[Symbol.asyncDispose]()
  })
  const read = (name: string) => existsSync(join(folder, name)) ? readFileSync(join(folder, name), 'utf8') : undefined
  const logged = (message: string) =>
    eventually(() => `"${message}" in ${JSON.stringify(lines)}`, () => lines.some(({ msg }) => msg === message), patienceMs)
  return { folder, lines, read, logged, metrics, ended, stop }
}

const pem = (der: readonly Uint8Array[]) => der.map(one => encodePem('CERTIFICATE', one)).join('')

/** Whether certificate and key belong together. */
function fits (svid = '', key = ''): boolean { return new X509Certificate(svid).checkPrivateKey(createPrivateKey(key)) }

void t.test('files follow the agent: rotation, federation, an agent that restarts; nothing secret is logged', async t => {
  await using agent = await FakeAgent.start()
  const partner = await TestTrustDomain.create('partner.test')
  const first = await agent.rotate()
  const { read, lines, metrics } = await start(t, agent, {
    ...names, include_federated_domains: true, federated_bundles: [{ trust_domain: 'partner.test', file_name: 'partner.pem' }]
  })
  const shows = (svid: { readonly chain: readonly Uint8Array[] }) =>
    eventually('the file holds it', () => read('svid.pem') === pem(svid.chain), patienceMs)
  await shows(first)
  t.ok(fits(read('svid.pem'), read('key.pem')))
  t.equal(read('bundle.pem'), pem([agent.domain.root]))
  t.equal(read('partner.pem'), '', 'a partner without federation: nobody is believed')

  const second = await agent.domain.issue('/web')
  agent.give([second], [partner.bundle])
  await shows(second)
  t.ok(fits(read('svid.pem'), read('key.pem')))
  t.equal(read('bundle.pem'), pem([agent.domain.root, partner.root]), 'include_federated_domains')
  t.equal(read('partner.pem'), pem([partner.root]))

  await agent.stop()
  await eventually('the loss is noticed', () => lines.some(({ msg }) => String(msg).startsWith('the agent is asked again')), patienceMs)
  t.equal(read('svid.pem'), pem(second.chain), 'without an agent the files stay')
  const third = await agent.rotate()
  await agent.restart()
  await shows(third)
  t.ok(fits(read('svid.pem'), read('key.pem')))
  t.equal(read('partner.pem'), '')
  let exposed = ''
  const counted = /assay_files_writes_total\{outcome="written"\} [3-9]/
  await eventually(() => `three sets are counted in ${exposed}`, async () => counted.test(exposed = await metrics.expose()), patienceMs)
  t.match(exposed, /assay_files_agent_connected 1\n/)
  t.match(exposed, new RegExp(`assay_files_svid_expiry_timestamp_seconds ${third.notAfter.getTime() / 1_000}\\n`))
  const all = JSON.stringify(lines)
  for (const { privateKey } of [first, second, third]) {
    t.notOk(all.includes(Buffer.from(privateKey).toString('base64').slice(40, 100)), 'no key')
  }
})

void t.test('an identity that is taken away: the files stay, or go where that is asked for', async t => {
  await using agent = await FakeAgent.start()
  const svid = await agent.rotate()
  const keeping = await start(t, agent, names)
  const removing = await start(t, agent, { ...names, remove_after_revoked: '100ms' })
  for (const { read } of [keeping, removing]) await eventually('written', () => read('svid.pem') === pem(svid.chain), patienceMs)
  agent.give([])
  await removing.logged('the agent has no identity for this process any more: the files are removed')
  await eventually('all are gone', () => Object.values(names).every(name => removing.read(name) === undefined), patienceMs)
  await keeping.logged('the agent is asked again for X509-SVIDs; the files stay as they are')
  t.equal(keeping.read('svid.pem'), pem(svid.chain))
  const back = await agent.rotate()
  for (const { read } of [keeping, removing]) {
    await eventually('it is back', () => read('svid.pem') === pem(back.chain) && fits(read('svid.pem'), read('key.pem')), patienceMs)
  }
})

void t.test('a token that was taken away with its identity comes back with it, not when the old one would have been renewed', async t => {
  await using agent = await FakeAgent.start()
  await agent.rotate()
  const first = await agent.token('/web', 'db', { seconds: 3_600 })
  agent.identities.jwtSvids = [first]
  const { read, logged } = await start(t, agent, {
    ...names, remove_after_revoked: '0s', jwt_svids: [{ jwt_audience: 'db', jwt_svid_file_name: 'db.token' }]
  })
  await eventually('written', () => read('db.token') === first.token && read('key.pem') !== undefined, patienceMs)
  agent.give([])
  agent.identities.jwtSvids = []
  await logged('the agent has no identity for this process any more: the files are removed')
  await eventually('all are gone', () => read('db.token') === undefined && read('key.pem') === undefined, patienceMs)
  const second = await agent.token('/web', 'db', { seconds: 3_601 })
  agent.identities.jwtSvids = [second]
  await agent.rotate()
  await eventually('it is back', () => read('db.token') === second.token && read('key.pem') !== undefined, patienceMs)
})

void t.test('an agent that is away takes no files with it', async t => {
  await using agent = await FakeAgent.start()
  await agent.rotate()
  const { read, lines } = await start(t, agent, { ...names, remove_after_revoked: '0s' })
  await eventually('written', () => read('svid.pem') !== undefined, patienceMs)
  await agent.stop()
  await eventually('it was asked again', () => lines.filter(({ status }) => status === 'UNAVAILABLE').length > 0, patienceMs)
  t.ok(read('key.pem'))
})

void t.test('of two identities the hint chooses; one that is not there leaves the files', async t => {
  await using agent = await FakeAgent.start()
  const [internal, external] = [await agent.domain.issue('/a', { hint: 'internal' }), await agent.domain.issue('/b', { hint: 'external' })]
  agent.give([internal, external])
  const { read, logged } = await start(t, agent, { ...names, hint: 'external' })
  await eventually('the second', () => read('svid.pem') === pem(external.chain), patienceMs)
  agent.give([internal])
  await logged('what the agent gave is not written; the files stay as they are')
  t.equal(read('svid.pem'), pem(external.chain))
  const other = await start(t, agent, names)
  await eventually('the default is the first', () => other.read('svid.pem') === pem(internal.chain), patienceMs)
})

void t.test('JWT-SVIDs and JWT bundles, in spiffe-helper\'s forms', async t => {
  await using agent = await FakeAgent.start()
  await agent.rotate()
  const giveShort = async () => {
    const given = await agent.token('/web', 'db', { seconds: 4 })
    agent.identities.jwtSvids = [given]
    return given
  }
  let given = await giveShort()
  const { read, lines } = await start(t, agent, {
    ...names, jwt_svids: [{ jwt_audience: 'db', jwt_extra_audiences: ['cache'], jwt_svid_file_name: 'db.token' }],
    jwt_bundle_file_name: 'jwks.json'
  }, systemClock)
  await eventually('the token is there', async () => {
    if (read('db.token') === given.token) return true
    // A machine that stood still may have outlived it.
    if (given.expiresAt <= systemClock.now()) given = await giveShort()
    return false
  }, patienceMs)
  const first = given.token
  await eventually('the bundle is there', () => read('jwks.json') !== undefined, patienceMs)
  const bundle = JSON.parse(read('jwks.json') ?? '') as Record<string, string>
  t.same(Object.keys(bundle), ['example.org'])
  t.match(JSON.parse(Buffer.from(bundle['example.org'] ?? '', 'base64').toString()), { keys: [{ kid: 'example.org-key', kty: 'EC' }] })
  t.same(agent.identities.jwtRequests[0]?.audience, ['db', 'cache'])
  agent.identities.jwtSvids = [await agent.token('/web', 'db')]
  await eventually('a new one at half of its life', () => read('db.token') === agent.identities.jwtSvids[0]?.token, patienceMs)
  t.notOk(JSON.stringify(lines).includes(first.split('.')[2] ?? first), 'no token is logged')
})

/** What the agent says in the time that there is: a busy machine needs more of it. */
async function refusedFetch (words: readonly string[]) {
  for (let seconds = 0.2; ; seconds *= 3) {
    const outcome = await runAssay(['files', 'fetch', ...words, '-timeout', `${seconds}s`])
    if (seconds > 60 || !outcome.stderr.includes('deadline_exceeded')) return outcome
  }
}

void t.test('assay files fetch: once, with an exit code', async t => {
  await using agent = await FakeAgent.start()
  const folder = folderOf(t)
  const flags = ['-socketPath', agent.socket, '-certDir', join(folder, 'certs'), '-config']
  const file = join(folder, 'files.json')
  const write = (keys: object) => writeFileSync(file, JSON.stringify({ ...names, ...keys }))
  write({})
  t.match(await refusedFetch([...flags, file]), { code: 1, stderr: /no_identity_issued/ })
  t.equal(existsSync(join(folder, 'certs/svid.pem')), false)
  const svid = await agent.rotate()
  const { code, stdout } = await runAssay(['files', 'fetch', ...flags, file, '--output', 'json'])
  t.equal(code, 0)
  t.match(JSON.parse(stdout), {
    changed: true, spiffe_id: svid.id, folder: join(folder, 'certs'), not_after: svid.notAfter.toISOString(),
    files: [{ name: 'svid.pem', mode: '0644' }, { name: 'key.pem', mode: '0600' }, { name: 'bundle.pem', mode: '0644' }]
  })
  t.notMatch(stdout, /PRIVATE|BEGIN/)
  t.ok(fits(readFileSync(join(folder, 'certs/svid.pem'), 'utf8'), readFileSync(join(folder, 'certs/key.pem'), 'utf8')))
  t.match(await runAssay(['files', 'run', '-once', ...flags, file]), { code: 0, stdout: '' })
  t.match((await runAssay(['files', 'fetch', ...flags, file])).stdout, /Changed +: no/)
  write({ hint: 'absent' })
  t.match(await refusedFetch([...flags, file]), { code: 1, stderr: /hint_not_found/ })
  await agent.stop()
  t.match(await refusedFetch([...flags, file]), { code: 1, stderr: /server_unreachable/ })
  t.match(await runAssay(['files', 'fetch', '-config', join(folder, 'absent.conf')]), { code: 2 })
})
