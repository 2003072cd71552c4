import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readlinkSync } from 'node:fs'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { decodeJwt } from 'jose'
import t, { type Test } from 'tap'
import { z } from 'zod'
import { agentCatalog } from '../../src/agent/agent-catalog.ts'
import { parseAgentConfig } from '../../src/agent/agent-config.ts'
import type { BrokerConfig } from '../../src/agent/broker-config.ts'
import { findByNamespace } from '../../src/agent/follow-workload.ts'
import { ReferencedWorkloads } from '../../src/broker/referenced-workloads.ts'
import { pluginSchemas } from '../../src/plugins/catalog.ts'
import type { CallContext, TlsCaller } from '../../src/rpc/call.ts'
import { openTlsChannel, openUnixChannel } from '../../src/rpc/channel.ts'
import type { RpcError } from '../../src/rpc/rpc-error.ts'
import type { TlsIdentity } from '../../src/rpc/tls-identity.ts'
import { type Logger, silentLogger } from '../../src/runtime/logger.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { encodeBundle } from '../../src/wire/bundle-codec.ts'
import { encodeMessage } from '../../src/wire/encode-message.ts'
import {
  brokerService, KubernetesObjectReference, type KubernetesObjectReferenceInit, type SubscribeToX509SVIDResponse, WorkloadPIDReference,
  type WorkloadReference, type WorkloadReferenceInit
} from '../../src/wire/generated/broker.ts'
import { NetworkNamespaceReference } from '../../src/wire/generated/broker-reference.ts'
import { ErrorInfo } from '../../src/wire/generated/google-rpc.ts'
import { reflectionService } from '../../src/wire/generated/reflection.ts'
import { parseCertificate, splitCertificates } from '../../src/x509/certificate.ts'
import { type VerifiedX509Svid, verifyX509Svid } from '../../src/x509/verify-svid.ts'
import { startTestAgent } from '../fakes/agent.ts'
import { fakeCall } from '../fakes/call-context.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { ManualClock } from '../fakes/clock.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { eventually } from '../fakes/eventually.ts'
import { forge } from '../fakes/forge.ts'
import { startTestServer } from '../fakes/server.ts'
import { Administrator } from '../interop/administrator.ts'
import { Workload } from '../faults/workload.ts'

const brokerId = 'spiffe://example.org/broker'
const pidType = 'type.googleapis.com/spiffe.broker.WorkloadPIDReference'
const objectType = 'type.googleapis.com/spiffe.broker.KubernetesObjectReference'
const namespaceType = 'type.googleapis.com/assay.broker.v1.NetworkNamespaceReference'
const header = { metadata: { 'broker.spiffe.io': 'true' } }
const any = new Map([['*', { allowOverTcp: true }]])
const plugins = z.strictObject(pluginSchemas(agentCatalog))
  .parse({ WorkloadAttestor: { unix: { plugin_data: { discover_workload_path: true } } } })

const pidReference = (pid: number): WorkloadReferenceInit =>
  ({ reference: { typeUrl: pidType, value: encodeMessage(WorkloadPIDReference, { pid }) } })
const objectReference = (object: KubernetesObjectReferenceInit): WorkloadReferenceInit =>
  ({ reference: { typeUrl: objectType, value: encodeMessage(KubernetesObjectReference, object) } })

/** A server, an agent with a Broker Endpoint, and the SVID of the broker, which this process got from the Workload API. */
async function setUp (t: Test, options: Partial<BrokerConfig> = {}, log: Logger = silentLogger) {
  const scope = new AsyncDisposableStack()
  t.teardown(() => scope.disposeAsync())
  const folder = await mkdtemp(join(tmpdir(), 'broker-'))
  scope.defer(() => rm(folder, { recursive: true, force: true }))
  const server = scope.use(await startTestServer())
  const socketPath = join(folder, 'broker.sock')
  const broker = { socketPath, bind: undefined, brokers: new Map([[parseSpiffeId(brokerId), { allowedTypes: any }]]), ...options }
  const agent = scope.use(await startTestAgent(server, { log, config: { broker, plugins } }))
  const admin = scope.use(new Administrator({ adminSocket: server.config.socketPath }))
  const parent = `spiffe://example.org${agent.path}`
  const workload = scope.use(new Workload(agent.config.socketPath))
  const registerHere = async (id: string): Promise<TlsIdentity> => {
    await admin.register(id, parent, { selectors: [{ type: 'unix', value: `path:${readlinkSync('/proc/self/exe')}` }] })
    const { svids } = await workload.granted(id)
    const svid = svids.find(({ spiffeId }) => spiffeId === id)
    return { chain: splitCertificates(svid?.x509Svid ?? new Uint8Array()), privateKey: svid?.x509SvidKey ?? new Uint8Array() }
  }
  const identity = await registerHere(brokerId)
  const { x509Authorities } = await admin.bundles.getBundle({})
  const bundle = {
    trustDomain: parseTrustDomain('example.org'), jwtAuthorities: [],
    x509Authorities: x509Authorities.map(({ asn1 }) => ({ certificate: asn1, tainted: false }))
  }
  /** What the broker must do: the server is the agent, and nobody else (BRE-08). */
  const verifyServer = (chain: readonly Uint8Array[]) => {
    const { id } = verifyX509Svid(chain, { bundleOf: () => bundle, at: new Date() })
    if (id !== parent) throw new SpiffeError('peer_unauthenticated', `${id} is not the agent`)
  }
  const clientAs = (identity: TlsIdentity | undefined, address = `unix:${socketPath}`) =>
    scope.use(openTlsChannel({ address, identity: () => identity, verifyServer, log: silentLogger }))
  const channel = clientAs(identity)
  const client = channel.client(brokerService)
  return { admin, agent, parent, socketPath, identity, registerHere, clientAs, channel, client, bundle }
}

/** A workload that is another program than this process, with an entry of its own once it is registered. */
function startSleeper (t: Test, program = 'sleep', words = ['60']): { child: ChildProcess, pid: number, stop: () => Promise<unknown> } {
  const child = spawn(program, words, { stdio: 'ignore' })
  const exit = once(child, 'exit')
  const stop = async () => { child.kill('SIGKILL'); await exit }
  t.teardown(stop)
  return { child, pid: child.pid as number, stop }
}

/** The path at which the attestor finds it, once it runs its program. */
async function selectorOf (pid: number, program = /sleep|coreutils|busybox/) {
  await eventually('the program runs', () => program.test(readlinkSync(`/proc/${pid}/exe`)))
  return [{ type: 'unix', value: `path:${readlinkSync(`/proc/${pid}/exe`)}` }]
}

function reader<T> (stream: AsyncIterable<T>) {
  const iterator = stream[Symbol.asyncIterator]()
  return {
    async next (): Promise<T> {
      const { value, done } = await iterator.next()
      if (done === true) throw new Error('the stream has ended')
      return value
    },
    close: () => iterator.return?.()
  }
}

const idsOf = ({ svids }: SubscribeToX509SVIDResponse) => svids.map(({ spiffeId }) => spiffeId)
const failureOf = async (call: Promise<unknown>) =>
  await call.then(() => { throw new Error('it was answered') }, error => error as RpcError)
const infoOf = (error: RpcError) => error.detail(ErrorInfo)
const codeOfFirst = async (stream: AsyncIterable<unknown>) =>
  await reader(stream).next().then(() => undefined, error => (error as { code?: string }).code)

void t.test('the endpoint (Broker Endpoint)', async t => {
  const { client, channel, clientAs, registerHere, socketPath } = await setUp(t)
  const { pid } = process
  const first = (metadata: Readonly<Record<string, string>>) =>
    reader(client.subscribeToX509SVID({ reference: pidReference(pid) }, { metadata })).next()
  t.same(idsOf(await first({ 'broker.spiffe.io': 'true' })), [brokerId], 'BRE-02 BRE-04 mutual TLS on a Unix socket')
  t.equal((await stat(socketPath)).mode & 0o777, 0o770, 'BRE-01 for its owner and group alone')

  const refused: Record<string, Record<string, string>> = {
    absent: {}, empty: { 'broker.spiffe.io': '' }, 'in another case': { 'broker.spiffe.io': 'True' },
    'of the Workload API': { 'workload.spiffe.io': 'true' }
  }
  for (const [what, metadata] of Object.entries(refused)) {
    const expected = { status: 'INVALID_ARGUMENT', code: 'security_header_missing', message: 'security header missing from request' }
    await t.rejects(first(metadata), expected, `BRE-03 a header ${what}`)
    const token = client.fetchJWTSVID({ reference: pidReference(pid), audience: ['a'] }, { metadata })
    await t.rejects(token, expected, `BRE-03 on each method: ${what}`)
  }

  const call = async (identity: TlsIdentity | undefined) =>
    await reader(clientAs(identity).client(brokerService).subscribeToX509SVID({ reference: pidReference(pid) }, header)).next()
  const unauthenticated = { status: 'UNAUTHENTICATED' }
  await t.rejects(call(undefined), { ...unauthenticated, code: 'peer_unauthenticated' }, 'BRE-04 BRE-10 without an SVID')
  const forger = await createTestAuthority('example.org')
  await t.rejects(call(await forger.issue('/broker')), { ...unauthenticated, code: 'x509_chain_untrusted' }, 'BRE-10 with a forged one')
  const other = await registerHere('spiffe://example.org/other')
  await t.rejects(call(other), { status: 'PERMISSION_DENIED', code: 'broker_not_authorized' },
    'BRE-07 BRE-11 BRK-14 another member of the domain')
  t.ok(await plainIsCutOff(socketPath), 'BRE-04 without TLS nothing is answered')
  await t.rejects(reader(openUnixChannelFor(t, socketPath).subscribeToX509SVID({ reference: pidReference(pid) }, header)).next(),
    { name: 'RpcError', status: 'UNAVAILABLE' }, 'BRE-04 not even to a gRPC client')

  const listed: string[] = []
  const asks = (async function * () { yield { listServices: '' } })()
  for await (const { listServicesResponse } of channel.client(reflectionService).serverReflectionInfo(asks, header)) {
    listed.push(...listServicesResponse?.service.map(({ name }) => name) ?? [])
  }
  t.same(listed.toSorted(), ['grpc.reflection.v1.ServerReflection', 'grpc.reflection.v1alpha.ServerReflection', 'spiffe.broker.API'],
    'BRE-12 BRE-13 BRK-02 BRK-03 the Broker API and reflection, nothing else')
  t.same(Object.values(brokerService.methods).map(({ name }) => name).toSorted(),
    ['FetchJWTSVID', 'SubscribeToJWTBundles', 'SubscribeToX509Bundles', 'SubscribeToX509SVID'], 'BRK-01 X.509 and JWT, no other profile')
})

function openUnixChannelFor (t: Test, path: string) {
  const channel = openUnixChannel(path)
  t.teardown(() => channel[Symbol.asyncDispose]())
  return channel.client(brokerService)
}

async function plainIsCutOff (path: string): Promise<boolean> {
  const socket = connect(path)
  await once(socket, 'connect')
  const closed = once(socket, 'close')
  socket.on('error', () => {}).resume().write('GET / HTTP/1.1\r\nHost: a\r\n\r\n')
  await closed
  return true
}

void t.test('references (Broker API §3.1)', async t => {
  const { client } = await setUp(t)
  const invalid: Record<string, WorkloadReferenceInit | undefined> = {
    'BRK-04 BRK-21 none': undefined,
    'BRK-04 an empty one': {},
    'BRK-04 a type that nobody knows': { reference: { typeUrl: 'type.googleapis.com/example.Other', value: new Uint8Array() } },
    'BRK-09 PID 0': pidReference(0),
    'BRK-09 a negative PID': pidReference(-1),
    'BRK-21 bytes that are no such message': { reference: { typeUrl: pidType, value: Buffer.from([0xff]) } },
    'BRK-10 an object without type': objectReference({ uid: '6b6fbbd1-9c5c-4a36-9d8f-111111111111' }),
    'BRK-10 an object whose group is empty': objectReference({ type: { plural: 'pods' }, key: { name: 'a', namespace: 'b' } }),
    'BRK-11 an object without key and uid': objectReference({ type: { plural: 'pods', group: 'core' } }),
    'BRK-11 a key without name': objectReference({ type: { plural: 'pods', group: 'core' }, key: { namespace: 'b' } }),
    'BRK-12 a uid that is no UUID': objectReference({ type: { plural: 'pods', group: 'core' }, uid: 'pod-1' }),
    'BRK-04 BRK-08 an object, as no attestor here knows any': objectReference({
      type: { plural: 'pods', group: 'core' }, uid: '6b6fbbd1-9c5c-4a36-9d8f-111111111111'
    })
  }
  for (const [what, reference] of Object.entries(invalid)) {
    const calls = {
      svids: reader(client.subscribeToX509SVID({ reference }, header)).next(),
      bundles: reader(client.subscribeToX509Bundles({ reference }, header)).next(),
      keys: reader(client.subscribeToJWTBundles({ reference }, header)).next(),
      tokens: client.fetchJWTSVID({ reference, audience: ['a'] }, header)
    }
    for (const [method, call] of Object.entries(calls)) {
      const failure = await failureOf(call)
      t.match(failure, { status: 'INVALID_ARGUMENT', code: 'workload_reference_invalid' }, `${what}: ${method}`)
      t.match(infoOf(failure), { reason: 'WORKLOAD_REFERENCE_INVALID', domain: 'spiffe.io' }, `BRK-24 ${what}: ${method}`)
    }
  }
  const { pid, stop } = startSleeper(t)
  await stop()
  const failure = await failureOf(reader(client.subscribeToX509SVID({ reference: pidReference(pid) }, header)).next())
  t.match(failure, { status: 'NOT_FOUND', code: 'workload_not_found' }, 'BRK-06 BRK-22 a process that has ended')
  t.match(infoOf(failure), { reason: 'WORKLOAD_NOT_FOUND', domain: 'spiffe.io', metadata: { code: 'workload_not_found' } }, 'BRK-24')
})

void t.test('X509-SVIDs of a process (Broker API §5)', async t => {
  const { admin, client, parent } = await setUp(t)
  const { pid, stop } = startSleeper(t)
  const selectors = await selectorOf(pid)
  const subscribe = () => client.subscribeToX509SVID({ reference: pidReference(pid) }, header)
  const failure = await failureOf(reader(subscribe()).next())
  t.match(failure, { status: 'PERMISSION_DENIED', code: 'workload_not_entitled' }, 'BRK-23 found, without an entry')
  t.match(infoOf(failure), { reason: 'WORKLOAD_NOT_ENTITLED', domain: 'spiffe.io' }, 'BRK-24')

  const one = await admin.register('spiffe://example.org/one', parent, { selectors, id: 'a', hint: 'first' })
  await eventually('the agent knows the entry', async () => await codeOfFirst(subscribe()) === undefined)
  const stream = reader(subscribe())
  const state = await stream.next()
  t.same(idsOf(state), ['spiffe://example.org/one'], 'BRK-16 BRK-18 its own identity at once, not the broker\'s')
  const [svid] = state.svids
  const [leaf = new Uint8Array()] = splitCertificates(svid?.x509Svid ?? new Uint8Array())
  t.same(parseCertificate(leaf).uriSans, ['spiffe://example.org/one'])
  t.ok((svid?.x509SvidKey.length ?? 0) > 0 && (svid?.bundle.length ?? 0) > 0, 'BRK-26 all fields are there')
  t.equal(svid?.hint, 'first', 'BRK-30 with its hint')

  const two = await admin.register('spiffe://example.org/two', parent, { selectors, id: 'b', hint: 'second' })
  t.same(idsOf(await stream.next()), ['spiffe://example.org/one', 'spiffe://example.org/two'], 'BRK-18 BRK-30 the whole state, by entry')
  const twin = await admin.register('spiffe://example.org/three', parent, { selectors, id: 'c', hint: 'first' })
  await admin.register('spiffe://example.org/admin', parent, { selectors, id: 'd', admin: true })
  await admin.unregister(two)
  await eventually('the twin has been hidden and the second has gone', async () => idsOf(await stream.next()).length === 1)
  await admin.unregister(twin)
  await admin.unregister(one)
  const withdrawn = await failureOf((async () => { for (;;) await stream.next() })())
  t.match(withdrawn, { status: 'PERMISSION_DENIED', code: 'workload_not_entitled' },
    'BRK-27 all is withdrawn; an administrator\'s is never given')

  await admin.register('spiffe://example.org/again', parent, { selectors })
  await eventually('it has an identity again', async () => await codeOfFirst(subscribe()) === undefined)
  const last = reader(subscribe())
  await last.next()
  const here = reader(client.subscribeToX509SVID({ reference: pidReference(process.pid) }, header))
  t.same(idsOf(await here.next()), [brokerId], 'BRK-16 another workload on the same connection')
  await stop()
  const ended = await failureOf(last.next())
  t.match(ended, { status: 'NOT_FOUND', code: 'workload_not_found' }, 'BRK-25 the process has ended')
  t.match(infoOf(ended), { reason: 'WORKLOAD_NOT_FOUND' }, 'AMB-16')
  await admin.register('spiffe://example.org/more', parent)
  const both = [brokerId, 'spiffe://example.org/more'].toSorted()
  t.same(idsOf(await here.next()).toSorted(), both, 'BRK-17 which ends its stream and no other')
})

void t.test('bundles and tokens (Broker API §5.2.2, §6)', async t => {
  const { admin, client, parent } = await setUp(t)
  const { pid } = startSleeper(t)
  const selectors = await selectorOf(pid)
  const reference = pidReference(pid)
  await t.rejects(reader(client.subscribeToX509Bundles({ reference }, header)).next(), { code: 'workload_not_entitled' }, 'BRK-23')
  const notEntitled = { status: 'PERMISSION_DENIED', code: 'workload_not_entitled' }
  await t.rejects(client.fetchJWTSVID({ reference, audience: ['a'] }, header), notEntitled, 'BRK-23')
  await admin.register('spiffe://example.org/one', parent, { selectors, id: 'a' })
  await admin.register('spiffe://example.org/two', parent, { selectors, id: 'b' })
  await admin.register('spiffe://example.org/admin', parent, { selectors, id: 'c', admin: true })
  const tokens = async (spiffeId?: string) =>
    (await client.fetchJWTSVID({ reference, audience: ['db'], spiffeId }, header)).svids.map(({ svid }) => decodeJwt(svid))
  await eventually('both are there', async () => (await tokens().catch(() => [])).length === 2)
  t.same((await tokens()).map(({ sub, aud }) => [sub, aud]), [['spiffe://example.org/one', ['db']], ['spiffe://example.org/two', ['db']]],
    'BRK-29 all identities')
  t.same((await tokens('spiffe://example.org/two')).map(({ sub }) => sub), ['spiffe://example.org/two'], 'BRK-29 the one that is asked for')
  await t.rejects(tokens('spiffe://example.org/admin'), { code: 'workload_not_entitled' })
  const invalid = { status: 'INVALID_ARGUMENT', code: 'argument_invalid' }
  await t.rejects(client.fetchJWTSVID({ reference }, header), invalid, 'BRK-29 no audience')
  const { bundles } = await reader(client.subscribeToX509Bundles({ reference }, header)).next()
  t.same(Object.keys(bundles), ['spiffe://example.org'], 'BRK-20 BRK-28 the own domain is among them')
  const keys = (await reader(client.subscribeToJWTBundles({ reference }, header)).next()).bundles['spiffe://example.org'] ?? []
  t.match(JSON.parse(Buffer.from(keys).toString()), { keys: [{ kty: 'EC' }] }, 'BRK-28 JWT keys')
  t.notMatch(Buffer.from(keys).toString(), 'x5c', 'BRK-28 and those alone')
})

void t.test('what a broker may name', async t => {
  const only = new Map([[objectType, { allowOverTcp: false }]])
  const { client } = await setUp(t, { brokers: new Map([[parseSpiffeId(brokerId), { allowedTypes: only }]]) })
  const subscribe = (reference: WorkloadReferenceInit) => reader(client.subscribeToX509SVID({ reference }, header)).next()
  const notAllowed = { status: 'PERMISSION_DENIED', code: 'reference_not_allowed' }
  await t.rejects(subscribe(pidReference(process.pid)), notAllowed, 'BRK-15 a type that is not its')
  await t.rejects(subscribe(objectReference({})), { code: 'workload_reference_invalid' }, 'BRK-15 its own type is looked at')
})

void t.test('over TCP', async t => {
  const { log, lines } = capturedLog()
  const bind = { host: '127.0.0.1', port: 0 }
  const allowed = new Map([[pidType, { allowOverTcp: true }], [objectType, { allowOverTcp: false }]])
  const brokers = new Map([[parseSpiffeId(brokerId), { allowedTypes: allowed }]])
  const { clientAs, identity } = await setUp(t, { socketPath: undefined, bind, brokers }, log)
  const { port } = lines.find(({ msg, port }) => msg === 'broker endpoint is open' && port !== undefined) as { port: number }
  const channel = clientAs(identity, `127.0.0.1:${port}`)
  const client = channel.client(brokerService)
  const subscribe = (reference: WorkloadReferenceInit) => reader(client.subscribeToX509SVID({ reference }, header)).next()
  t.same(idsOf(await subscribe(pidReference(process.pid))), [brokerId], 'BRE-02 BRK-07 from this machine, as it is allowed')
  const notAllowed = { status: 'PERMISSION_DENIED', code: 'reference_not_allowed' }
  await t.rejects(subscribe(objectReference({})), notAllowed, 'BRK-15 a type that is not allowed over TCP')
  const asks = (async function * () { yield { listServices: '' } })()
  await t.rejects(reader(channel.client(reflectionService).serverReflectionInfo(asks, header)).next(),
    { code: 'authorization_denied' }, 'no reflection')
})

void t.test('a broker of another trust domain', async t => {
  const guestId = parseSpiffeId('spiffe://partner.test/broker')
  const brokers = new Map([parseSpiffeId(brokerId), guestId].map(id => [id, { allowedTypes: any }]))
  const { admin, parent, clientAs, bundle } = await setUp(t, { brokers })
  const own = parseCertificate(bundle.x509Authorities[0]?.certificate ?? new Uint8Array())
  const partner = await createTestAuthority('partner.test', { subject: own.subjectDer })
  const call = async (identity: TlsIdentity) =>
    await reader(clientAs(identity).client(brokerService).subscribeToX509SVID({ reference: pidReference(process.pid) }, header)).next()
  const [guest, forged] = await Promise.all([partner.issue('/broker'), forge(brokerId, partner, own)])
  await t.rejects(call(guest), { code: 'x509_chain_untrusted' }, 'as long as nothing here federates with its domain')
  await admin.setBundle(encodeBundle(partner.bundle))
  await t.rejects(call(guest), { code: 'x509_chain_untrusted' }, 'nor by a bundle that the server alone has')
  await admin.register('spiffe://example.org/db', parent, { federatesWith: ['partner.test'] })
  await eventually('the partner\'s bundle to be here', () => call(guest).then(() => true, () => false))
  for (const [how, identity] of Object.entries(forged)) {
    const refused = { status: 'UNAUTHENTICATED', code: 'x509_chain_untrusted' }
    await t.rejects(call(identity), refused, `X509-21 FED-09 its CA, which has our CA's name, vouches for nobody of ours: ${how}`)
  }
})

void t.test('from another machine, and by namespace', async t => {
  const svid = { id: parseSpiffeId(brokerId) } as VerifiedX509Svid
  const context = (scope: TlsCaller['scope']): CallContext =>
    ({ ...fakeCall(), caller: { kind: 'tls', connection: 'test', address: '192.0.2.1:5', scope, svid, drop () {} } })
  const clock = new ManualClock(new Date())
  const registry = { arrivals: [{ uid: 'web-1', name: 'web', selectors: [{ type: 'netns', value: 'name:web' }] }] }
  const workloads = new ReferencedWorkloads({
    brokers: new Map([[svid.id, { allowedTypes: any }]]),
    attestPid: async () => { throw new Error('nothing is attested') },
    findNamespace: findByNamespace(registry, clock), clock
  })
  const named = (name: string): WorkloadReference => ({
    reference: { typeUrl: namespaceType, value: encodeMessage(NetworkNamespaceReference, { name }) }
  })
  const process: WorkloadReference = { reference: { typeUrl: pidType, value: encodeMessage(WorkloadPIDReference, { pid: 1 }) } }
  const notAllowed = { code: 'reference_not_allowed', requirement: 'BRK-07' }
  await t.rejects(workloads.find(process, context('network')), notAllowed, 'BRK-07 a PID from elsewhere')
  await t.rejects(workloads.find(named('web'), context('network')), notAllowed, 'BRK-07 a namespace from elsewhere')
  await t.rejects(workloads.find(named(''), context('unix')), { code: 'workload_reference_invalid' })
  await t.rejects(workloads.find(named('db'), context('unix')), { code: 'workload_not_found' }, 'BRK-22 no such namespace')

  using found = await workloads.find(named('web'), context('unix'))
  t.same(found.selectors, [{ type: 'netns', value: 'name:web' }], 'BRK-05 BRK-13 a named network namespace of this node')
  found.check()
  registry.arrivals.splice(0, 1, { uid: 'web-2', name: 'web', selectors: [] })
  t.throws(() => found.check(), { code: 'workload_not_found' }, 'BRK-25 another of the same name is not it')
  await clock.advance(1000)
  t.match(found.ended.reason, { code: 'workload_not_found' }, 'BRK-25 its streams are told')
  await t.rejects(new ReferencedWorkloads({
    brokers: new Map([[svid.id, { allowedTypes: any }]]),
    attestPid: async () => { throw new Error('nothing is attested') },
    findNamespace: findByNamespace(undefined, clock), clock
  }).find(named('web'), context('unix')), { code: 'workload_not_found' }, 'an agent without a mesh knows no namespace')
})

void t.test('its keys', async t => {
  const configOf = (broker: object) => parseAgentConfig({ file: { name: 'agent.json', text: JSON.stringify({
    agent: {
      trust_domain: 'example.org', server_addresses: ['127.0.0.1:8081'], insecure_bootstrap: true, socket_path: '/run/a/public/api.sock',
      experimental: { broker }
    }
  }) } }).broker
  const brokers = [{ id: 'spiffe://partner.test/b', allowed_reference_types: [{ type_url: pidType, allow_over_tcp: true }] }]
  t.same(configOf({ socket_path: '/run/a/private/b.sock', bind_address: '[::1]:8443', brokers }), {
    socketPath: '/run/a/private/b.sock',
    bind: { host: '::1', port: 8443 },
    brokers: new Map([['spiffe://partner.test/b', { allowedTypes: new Map([[pidType, { allowOverTcp: true }]]) }]])
  }, 'BRE-07 brokers by SPIFFE ID, also of other trust domains')
  const path = { socket_path: '/run/a/private/b.sock' }
  const types = (...urls: string[]) => [{ id: brokerId, allowed_reference_types: urls.map(url => ({ type_url: url })) }]
  const refused: Record<string, object> = {
    nowhere: { brokers },
    'BRE-01 beside workloads\' socket': { socket_path: '/run/a/public/b.sock', brokers },
    'BRK-14 no broker': { ...path, brokers: [] },
    'no type': { ...path, brokers: types() },
    'any type beside others': { ...path, brokers: types('*', pidType) },
    'a broker twice': { ...path, brokers: [...types('*'), ...types('*')] },
    'no port': { bind_address: '127.0.0.1', brokers }
  }
  for (const [what, broker] of Object.entries(refused)) {
    t.throws(() => configOf(broker), { code: 'config_invalid', message: /experimental\.broker/ }, what)
  }
})
