import t from 'tap'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { formatBundleDocument } from '../../src/spiffe/bundle-document.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { localAuthorityService } from '../../src/wire/generated/server-local-authority.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { until } from '../fakes/envoy.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { noFederation, startTestServer, type TestServer } from '../fakes/server.ts'

const federation = {
  ...noFederation, leastRefreshMs: 100,
  bundleEndpoint: { address: '127.0.0.1', port: 0, refreshHintSeconds: 3600, profileNamed: true, profile: { kind: 'https_spiffe' } }
} as const

const on = ({ config }: TestServer) => (words: readonly string[], input?: string) =>
  runAssay(['federation', ...words, '-socketPath', config.socketPath], input === undefined ? {} : { input })

const accepting = (code: string) => ({ code: 1, stderr: new RegExp(code) })
const folder = await mkdtemp(join(tmpdir(), 'assay-invitation-'))
t.teardown(() => rm(folder, { recursive: true, force: true }))

void t.test('one step per side', async t => {
  await using us = await startTestServer({ config: { federation } })
  await using them = await startTestServer({ config: { federation, trustDomain: parseTrustDomain('partner.test') } })
  const url = `https://127.0.0.1:${(await them.bundleEndpoint).port}/`
  const [ours, theirs] = [on(us), on(them)]
  const invited = await theirs(['invite', '-bundleEndpointURL', url, '-scope', 'GET /orders'])
  t.match(invited, { code: 0, stderr: /^Valid until .*; pin sha256:[0-9a-f]{64}\n$/ })
  const pin = /sha256:\S+/.exec(invited.stderr)?.[0] as string
  const text = invited.stdout.trim()
  t.ok(text.length < 700, `it fits a message: ${text.length} characters`)
  const file = join(folder, 'invitation')
  await writeFile(file, invited.stdout)

  const shown = await ours(['accept', text])
  t.match(shown, { code: 1, stderr: /Nothing is changed/ })
  t.match(shown.stdout, new RegExp([
    'Invitation of {13}: partner.test', `Bundle endpoint URL {7}: ${url}`, 'Bundle endpoint profile {3}: https_spiffe',
    'Endpoint SPIFFE ID {8}: spiffe://partner.test/spire/server', `Pin {23}: ${pin}`, 'Authorities {15}: 1 X.509, 1 JWT',
    'Checked by {16}: the bundle that its endpoint serves, which has this pin.*', 'Can be accepted until {5}: .*',
    'They ask for {14}: GET /orders\n'
  ].join('\n')))
  t.match(shown.stdout, 'They will be able to reach: nothing, until')
  t.match((await ours(['list'])).stdout, 'Found 0')

  t.match(await theirs(['accept', text]), accepting('federation_invalid'), 'one\'s own')
  t.match(await ours(['accept', `${text.slice(0, -4)}AAAA`]), accepting('invitation_untrusted'))
  const { stdout: nowhere } = await theirs(['invite', '-bundleEndpointURL', 'https://127.0.0.1:1/'])
  t.match(await ours(['accept', nowhere]), accepting('bundle_endpoint_unreachable'))
  t.match(await ours(['accept', '-'], 'hello'), accepting('invitation_malformed'))
  t.match(await ours(['accept', join(folder, 'none')]), { code: 2, stderr: /file_unusable/ })
  const stranger = join(folder, 'stranger.json')
  await writeFile(stranger, formatBundleDocument((await createTestAuthority('partner.test')).bundle))
  t.match(await ours(['accept', file, '-yes', '-trustDomainBundlePath', stranger]), accepting('invitation_untrusted'))
  t.match((await ours(['list'])).stdout, 'Found 0', 'nothing refused has left anything')

  const done = { code: 0, stderr: '', stdout: /\nAccepted: example.org follows the bundle of partner.test/ }
  t.match(await ours(['accept', '-', '-yes'], invited.stdout), done)
  t.match((await ours(['show', '-trustDomain', 'partner.test'])).stdout, url)
  const isHealthy = async () => /Health +: healthy/.test((await ours(['status'])).stdout)
  await until('the partner\'s endpoint to be followed', isHealthy, 60_000)
  t.match(await ours(['accept', file, '-yes']), accepting('federation_exists|already exists'))
})

void t.test('one that carries the bundle needs no endpoint, and one whose keys have changed since is refused', async t => {
  await using us = await startTestServer()
  await using them = await startTestServer({ config: { federation, trustDomain: parseTrustDomain('partner.test') } })
  const [ours, theirs] = [on(us), on(them)]
  const carrying = (await theirs(['invite', '-carryBundle', '-bundleEndpointURL', 'https://127.0.0.1:1/'])).stdout
  t.ok(carrying.length < 3_000)
  t.match((await ours(['accept', carrying])).stdout, 'Checked by                : the bundle that it carries')
  const url = `https://127.0.0.1:${(await them.bundleEndpoint).port}/`
  const { stdout: before } = await theirs(['invite', '-bundleEndpointURL', url])
  await them.admin.client(localAuthorityService).prepareX509Authority({})
  const refused = await ours(['accept', before, '-yes'])
  t.match(refused, accepting('invitation_untrusted'))
  t.match(refused.stderr, /it names the keys sha256:/)
  const { stdout: after } = await theirs(['invite', '-bundleEndpointURL', url])
  t.match(await ours(['accept', after, '-yes']), { code: 0 }, 'a new one is accepted')
})

void t.test('what active policies let in of the inviting domain already is shown', async t => {
  await using us = await startTestServer()
  await using them = await startTestServer({ config: { federation, trustDomain: parseTrustDomain('partner.test') } })
  const [ours, theirs] = [on(us), on(them)]
  const invitation = (await theirs(['invite', '-carryBundle', '-bundleEndpointURL', 'https://partner.test/b'])).stdout.trim()
  const apply = async (scopes: readonly object[]) => {
    const file = join(folder, 'policies.yaml')
    const settings = { kind: 'Settings', trustDomain: 'example.org', defaultAction: 'allow' }
    await writeFile(file, [settings, ...scopes].map(one => `${JSON.stringify({ apiVersion: 'assay/v1', ...one })}\n`).join('---\n'))
    t.match(await runAssay(['policy', 'apply', file, '-socketPath', us.config.socketPath]), { code: 0, stderr: '' })
  }
  const scope = { kind: 'FederationScope', trustDomain: 'partner.test' }
  await apply([{ ...scope, trustDomain: 'other.test', accept: ['spiffe://other.test/*'] }])
  t.match((await ours(['accept', invitation])).stdout,
    '\nVersion 1 of the policies is active and has no FederationScope of them: it lets nobody of theirs in.\n', 'another\'s is not theirs')
  await apply([
    { ...scope, accept: ['spiffe://partner.test/billing/*', 'spiffe://partner.test/web'], workloads: ['spiffe://example.org/invoices'] },
    { ...scope, accept: ['spiffe://partner.test/*'], until: '2020-01-01T00:00:00Z' }, { ...scope, until: '2999-01-01T00:00:00Z' }
  ])
  t.match((await ours(['accept', invitation])).stdout, [
    '\nVersion 2 of the policies is active and lets in already:',
    '  spiffe://partner.test/billing/*, spiffe://partner.test/web to spiffe://example.org/invoices',
    '  spiffe://partner.test/* to all workloads that rules let them reach; it ended at 2020-01-01 00:00:00 +0000 UTC',
    '  nobody to all workloads that rules let them reach; until 2999-01-01 00:00:00 +0000 UTC\n'
  ].join('\n'))
  const { stdout } = await ours(['accept', invitation, '-output', 'json'])
  t.match(JSON.parse(stdout), {
    accepted: false, entries: 0, policies_version: 2,
    federation_scopes: [{ workloads: ['spiffe://example.org/invoices'] }, { until: /^2020/ }, { accept: { length: 0 } }]
  })
})

void t.test('what is trusted already is not replaced by an invitation, and a bundle by another way counts most', async t => {
  await using us = await startTestServer()
  await using them = await startTestServer({ config: { federation, trustDomain: parseTrustDomain('partner.test') } })
  const [ours, theirs] = [on(us), on(them)]
  const invite = ['invite', '-carryBundle', '-bundleEndpointURL', 'https://partner.test/b']
  const { invitation, ...rest } = JSON.parse((await theirs([...invite, '-ttl', '1h', '-output', 'json'])).stdout) as Record<string, string>
  t.match(rest, { carries_bundle: true, pin: /^sha256:/, expires_at: String })
  const bundle = async (path: string) =>
    await runAssay(['bundle', 'set', '-id', 'partner.test', '-path', path, '-format', 'spiffe', '-socketPath', us.config.socketPath])
  const [stranger, known] = [join(folder, 'other.json'), join(folder, 'known.json')]
  await writeFile(stranger, formatBundleDocument((await createTestAuthority('partner.test')).bundle))
  await writeFile(known, (await runAssay(['bundle', 'show', '-format', 'spiffe', '-socketPath', them.config.socketPath])).stdout)
  t.equal((await bundle(stranger)).code, 0)
  t.match(await ours(['accept', invitation as string, '-yes']), accepting('invitation_untrusted'))
  const given = await ours(['accept', invitation as string, '-trustDomainBundlePath', known, '-output', 'json'])
  t.match(given, { code: 1, stderr: /Nothing is changed/ })
  const invited = { trust_domain: 'partner.test', bundle_endpoint_profile: 'https_spiffe' }
  t.match(JSON.parse(given.stdout), { accepted: false, checked_by: 'given', invitation: invited })
  t.equal((await bundle(known)).code, 0)
  await runAssay([
    'entry', 'create', '-spiffeID', 'spiffe://example.org/web', '-parentID', 'spiffe://example.org/node', '-selector', 'unix:uid:1',
    '-federatesWith', 'spiffe://partner.test', '-socketPath', us.config.socketPath
  ])
  const accepted = await ours(['accept', invitation as string, '-yes'])
  t.match(accepted, { code: 0, stdout: /stored here, which stays/ })
  t.match(accepted.stdout, 'They will be able to reach: 1 entry that federates with them already, as far as policies allow.')
  t.notMatch(accepted.stdout, 'policies is active', 'there are none')

  t.match(await ours(invite), { code: 1, stderr: /has no bundle endpoint/ }, 'a server without one must be told')
  const web = await ours([...invite, '-bundleEndpointProfile', 'https_web', '-ttl', '1000h'])
  t.match(web, { code: 1, stderr: /ttl_seconds/ })
  t.equal((await ours([...invite, '-bundleEndpointProfile', 'https_web'])).code, 0)
  t.match(await ours(['invite']), { code: 2, stderr: /-bundleEndpointURL/ })
})
