import { createPrivateKey, X509Certificate } from 'node:crypto'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { decodeJwt } from 'jose'
import t, { type Test } from 'tap'
import { Delegates } from '../../src/delegatedidentity/delegates.ts'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { delegatedIdentityService, type SubscribeToX509SVIDsResponse } from '../../src/wire/generated/delegated-identity.ts'
import type { EntryInit } from '../../src/wire/generated/types.ts'
import { parseCertificate, splitCertificates } from '../../src/x509/certificate.ts'
import { startTestAgent } from '../fakes/agent.ts'
import { fakeCall } from '../fakes/call-context.ts'
import { eventually } from '../fakes/eventually.ts'
import { startTestServer, type TestServer } from '../fakes/server.ts'
import { readStream } from '../fakes/read-stream.ts'
import { Administrator } from '../interop/administrator.ts'

const uid = process.getuid?.() ?? 0
const delegate = 'spiffe://example.org/delegate'
const meshed = [{ type: 'cilium', value: 'mutual-auth' }]
const other = [{ type: 'cilium', value: 'other' }]
const denied = { status: 'PERMISSION_DENIED' }
const invalid = { status: 'INVALID_ARGUMENT', code: 'argument_invalid' }

/** A server, and an agent whose admin socket this process calls; it is a delegate once `delegate` is registered. */
async function setUp (t: Test) {
  const scope = new AsyncDisposableStack()
  t.teardown(() => scope.disposeAsync())
  const folder = await mkdtemp(join(tmpdir(), 'delegated-'))
  scope.defer(() => rm(folder, { recursive: true, force: true }))
  const server = scope.use(await startTestServer())
  const adminSocketPath = join(folder, 'admin', 'admin.sock')
  const agent = scope.use(await startTestAgent(server, { config: { adminSocketPath, authorizedDelegates: [parseSpiffeId(delegate)] } }))
  const admin = scope.use(new Administrator({ adminSocket: server.config.socketPath }))
  const channel = scope.use(openUnixChannel(adminSocketPath))
  const client = channel.client(delegatedIdentityService)
  const parent = `spiffe://example.org${agent.path}`
  const register = (path: string, more: EntryInit = {}) => admin.register(`spiffe://example.org${path}`, parent, more)
  return { server, agent, admin, channel, client, register, adminSocketPath }
}

/** Of the refusal that is the first answer; `undefined` when it is none. */
async function codeOfFirst (stream: AsyncIterable<unknown>): Promise<string | undefined> {
  return await readStream(stream).next().then(() => undefined, error => (error as { code?: string }).code)
}

const idsOf = ({ x509Svids }: SubscribeToX509SVIDsResponse) =>
  x509Svids.map(({ x509Svid }) => `${x509Svid?.id?.trustDomain}${x509Svid?.id?.path}`)

/** Asks again until this process is a delegate: its entry takes a moment to arrive. */
async function admitted (client: Awaited<ReturnType<typeof setUp>>['client']): Promise<void> {
  await eventually('the caller is a delegate', async () => {
    try {
      for await (const _ of client.subscribeToX509Bundles({})) return true
    } catch (error) {
      if (!['PERMISSION_DENIED', 'UNAVAILABLE'].includes((error as { status?: string }).status ?? '')) throw error
    }
    return false
  })
}

async function partnerOf (t: Test, admin: Administrator): Promise<TestServer> {
  const folder = await mkdtemp(join(tmpdir(), 'partner-'))
  const partner = await startTestServer({ folder, config: { trustDomain: 'partner.test' as TestServer['config']['trustDomain'] } })
  t.teardown(async () => {
    await partner[Symbol.asyncDispose]()
    await rm(folder, { recursive: true, force: true })
  })
  await using there = new Administrator({ adminSocket: partner.config.socketPath })
  await admin.setBundle(await there.bundles.getBundle({}))
  return partner
}

void t.test('who may ask', async t => {
  const { client, register, admin, adminSocketPath } = await setUp(t)
  t.equal((await stat(adminSocketPath)).mode & 0o777, 0o770, 'the socket is for its owner and group')
  await eventually('the agent knows its entries', async () => await codeOfFirst(client.subscribeToX509SVIDs({ selectors: meshed })) !==
    'server_initializing')
  await t.rejects(readStream(client.subscribeToX509SVIDs({ selectors: meshed })).next(), { ...denied, code: 'no_identity_issued' },
    'a caller without an identity')
  await t.rejects(client.fetchJWTSVIDs({ selectors: meshed, audience: ['a'] }), { ...denied, message: 'no identity issued' })
  await register('/somebody')
  await eventually('the caller has an identity', async () => await codeOfFirst(client.subscribeToX509Bundles({})) ===
    'delegate_not_authorized')
  const expected = { ...denied, message: 'caller not configured as an authorized delegate' }
  await t.rejects(readStream(client.subscribeToX509SVIDs({ selectors: meshed })).next(), expected, 'a caller with another identity')
  await t.rejects(readStream(client.subscribeToX509Bundles({})).next(), expected)
  await t.rejects(readStream(client.subscribeToJWTBundles({})).next(), expected)
  await t.rejects(client.fetchJWTSVIDs({ selectors: meshed, audience: ['a'] }), expected)

  const entry = await register('/delegate')
  await admitted(client)
  const svids = readStream(client.subscribeToX509SVIDs({ selectors: meshed }))
  const bundles = readStream(client.subscribeToJWTBundles({}))
  t.same(await svids.next(), { x509Svids: [], federatesWith: [] }, 'a delegate is served; nothing is an empty list')
  await bundles.next()
  await admin.unregister(entry)
  await t.rejects(svids.next(), expected, 'who is no delegate any more is told at once')
  await t.rejects(bundles.next(), expected, 'on each stream')
})

void t.test('a caller that cannot be attested is no delegate, and may come again', async t => {
  const failed = new SpiffeError('workload_attestation_failed', 'workload attestation failed: attestor unix: see the agent\'s log')
  const delegates = new Delegates({
    authorized: [parseSpiffeId(delegate)], attestWorkload: async () => { throw failed }, callers: { idsOf: () => [], async * watch () {} }
  })
  await t.rejects(delegates.admit(fakeCall()), failed)
  await t.rejects(readStream(delegates.whileAdmitted(fakeCall(), async function * () { yield 'a secret' })).next(), failed)
  t.match(failed.row, { status: 'UNAVAILABLE', retry: true })
})

void t.test('by selectors', async t => {
  const { client, register, admin } = await setUp(t)
  await partnerOf(t, admin)
  await register('/delegate')
  await admitted(client)
  const both = { selectors: meshed, pid: process.pid }
  await t.rejects(readStream(client.subscribeToX509SVIDs({})).next(), invalid, 'neither selectors nor PID')
  await t.rejects(readStream(client.subscribeToX509SVIDs(both)).next(), invalid, 'both')
  await t.rejects(readStream(client.subscribeToX509SVIDs({ selectors: [{ type: '', value: 'x' }] })).next(),
    { status: 'INVALID_ARGUMENT', code: 'selector_malformed' })
  await t.rejects(client.fetchJWTSVIDs({ selectors: meshed }), { ...invalid, message: 'audience must be specified' })
  await t.rejects(client.fetchJWTSVIDs({ selectors: meshed, audience: ['a'] }), { ...denied, message: 'no identity issued' })

  const stream = readStream(client.subscribeToX509SVIDs({ selectors: [...meshed, ...other] }))
  t.same(idsOf(await stream.next()), [], 'nothing matches yet')
  const first = await register('/identity/1', { selectors: meshed, id: 'a', hint: 'one' })
  const state = await stream.next()
  t.same(idsOf(state), ['example.org/identity/1'])
  const [{ x509Svid, x509SvidKey } = { x509Svid: undefined, x509SvidKey: new Uint8Array() }] = state.x509Svids
  const leaf = parseCertificate(x509Svid?.certChain[0] ?? new Uint8Array())
  t.equal(Number(x509Svid?.expiresAt), leaf.notAfter.getTime() / 1000)
  t.equal(x509Svid?.hint, 'one')
  const key = createPrivateKey({ key: Buffer.from(x509SvidKey), format: 'der', type: 'pkcs8' })
  t.ok(new X509Certificate(x509Svid?.certChain[0] ?? new Uint8Array()).checkPrivateKey(key), 'with its key, as PKCS#8')

  await register('/identity/2', { selectors: meshed, id: 'b', federatesWith: ['partner.test'] })
  const second = await stream.next()
  t.same(idsOf(second), ['example.org/identity/1', 'example.org/identity/2'], 'the whole state after each change')
  t.same(second.federatesWith, ['spiffe://partner.test'])
  await register('/admin', { selectors: meshed, id: 'c', admin: true })
  await register('/downstream', { selectors: meshed, id: 'd', downstream: true })
  await register('/admin', { selectors: other, id: 'e' })
  await register('/identity/3', { selectors: meshed, id: 'f' })
  t.same(idsOf(await stream.next()), ['example.org/identity/1', 'example.org/identity/2', 'example.org/identity/3'],
    'administrators\' and downstream servers\' identities are left out, by whatever entry')
  await admin.unregister(first)
  t.same(idsOf(await stream.next()), ['example.org/identity/2', 'example.org/identity/3'], 'a withdrawal is pushed')
  await stream.close()

  const { svids } = await client.fetchJWTSVIDs({ selectors: meshed, audience: ['db'] })
  t.same(svids.map(({ id }) => id?.path), ['/identity/2', '/identity/3'], 'tokens too')
  t.same(decodeJwt(svids[0]?.token ?? '').sub, 'spiffe://example.org/identity/2')
})

void t.test('by PID', async t => {
  const { client, register } = await setUp(t)
  await register('/delegate')
  await admitted(client)
  const child = spawn('sleep', ['600'], { stdio: 'ignore' })
  const exit = once(child, 'exit')
  t.teardown(() => child.kill('SIGKILL'))
  const pid = child.pid as number
  await register('/same-user')
  const stream = readStream(client.subscribeToX509SVIDs({ pid }))
  await stream.until(state => idsOf(state).includes('example.org/same-user'))
  const { svids } = await client.fetchJWTSVIDs({ pid, audience: ['db'] })
  t.same(new Set(svids.map(({ id }) => id?.path)), new Set(['/delegate', '/same-user']), 'it is attested as if it had called')
  child.kill('SIGKILL')
  await exit
  await t.rejects(stream.next(), { status: 'NOT_FOUND', code: 'workload_not_found' }, 'its end ends the stream')
  await t.rejects(readStream(client.subscribeToX509SVIDs({ pid })).next(), { code: 'workload_not_found' }, 'nobody has that PID')
  await t.rejects(readStream(client.subscribeToX509SVIDs({ pid: -1 })).next(), invalid)
})

void t.test('bundles of the whole node', async t => {
  const { client, register, admin } = await setUp(t)
  await register('/delegate')
  await admitted(client)
  const x509 = readStream(client.subscribeToX509Bundles({}))
  const jwt = readStream(client.subscribeToJWTBundles({}))
  const own = await x509.next()
  t.same(Object.keys(own.caCertificates), ['spiffe://example.org'])
  t.equal(splitCertificates(own.caCertificates['spiffe://example.org'] ?? new Uint8Array()).length, 1, 'DER back to back')
  t.same(Object.keys((await jwt.next()).bundles), ['spiffe://example.org'])
  await partnerOf(t, admin)
  const entry = await register('/federated', { selectors: [{ type: 'unix', value: `uid:${uid + 1}` }], federatesWith: ['partner.test'] })
  t.same(Object.keys((await x509.next()).caCertificates), ['spiffe://example.org', 'spiffe://partner.test'], 'of anybody on this node')
  const keys = JSON.parse(Buffer.from((await jwt.next()).bundles['spiffe://partner.test'] ?? []).toString()) as { keys: object[] }
  t.match(keys, { keys: [{ kty: 'EC', kid: String }] }, 'JWK Sets')
  await admin.unregister(entry)
  t.same(Object.keys((await x509.next()).caCertificates), ['spiffe://example.org'], 'SPIRE would go on sending what is gone')
})
