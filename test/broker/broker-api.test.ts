import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readlinkSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { connect } from 'node:net'
import { decodeJwt } from 'jose'
import t, { type Test } from 'tap'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import type { RpcError } from '../../src/rpc/rpc-error.ts'
import type { TlsIdentity } from '../../src/rpc/tls-identity.ts'
import { brokerService, type WorkloadReferenceInit } from '../../src/wire/generated/broker.ts'
import { ErrorInfo } from '../../src/wire/generated/google-rpc.ts'
import { reflectionService } from '../../src/wire/generated/reflection.ts'
import { parseCertificate, splitCertificates } from '../../src/x509/certificate.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { eventually } from '../fakes/eventually.ts'
import { brokerId, header, idsOf, objectReference, pidReference, pidType, setUp } from '../fakes/broker.ts'
import { readStream } from '../fakes/read-stream.ts'

/** A workload that is another program than this process, with an entry of its own once it is registered. */
function startSleeper (t: Test, program = 'sleep', words = ['600']): { child: ChildProcess, pid: number, stop: () => Promise<unknown> } {
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

const failureOf = async (call: Promise<unknown>) =>
  await call.then(() => { throw new Error('it was answered') }, error => error as RpcError)

const infoOf = (error: RpcError) => error.detail(ErrorInfo)

const codeOfFirst = async (stream: AsyncIterable<unknown>) =>
  await readStream(stream).next().then(() => undefined, error => (error as { code?: string }).code)

void t.test('the endpoint (Broker Endpoint)', async t => {
  const { client, channel, clientAs, registerHere, socketPath } = await setUp(t)
  const { pid } = process
  const first = (metadata: Readonly<Record<string, string>>) =>
    readStream(client.subscribeToX509SVID({ reference: pidReference(pid) }, { metadata })).next()
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
    await readStream(clientAs(identity).client(brokerService).subscribeToX509SVID({ reference: pidReference(pid) }, header)).next()
  const unauthenticated = { status: 'UNAUTHENTICATED' }
  await t.rejects(call(undefined), { ...unauthenticated, code: 'peer_unauthenticated' }, 'BRE-04 BRE-10 without an SVID')
  const forger = await createTestAuthority('example.org')
  await t.rejects(call(await forger.issue('/broker')), { ...unauthenticated, code: 'x509_chain_untrusted' }, 'BRE-10 with a forged one')
  const other = await registerHere('spiffe://example.org/other')
  await t.rejects(call(other), { status: 'PERMISSION_DENIED', code: 'broker_not_authorized' },
    'BRE-07 BRE-11 BRK-14 another member of the domain')
  t.ok(await plainIsCutOff(socketPath), 'BRE-04 without TLS nothing is answered')
  await t.rejects(readStream(openUnixChannelFor(t, socketPath).subscribeToX509SVID({ reference: pidReference(pid) }, header)).next(),
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
      svids: readStream(client.subscribeToX509SVID({ reference }, header)).next(),
      bundles: readStream(client.subscribeToX509Bundles({ reference }, header)).next(),
      keys: readStream(client.subscribeToJWTBundles({ reference }, header)).next(),
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
  const failure = await failureOf(readStream(client.subscribeToX509SVID({ reference: pidReference(pid) }, header)).next())
  t.match(failure, { status: 'NOT_FOUND', code: 'workload_not_found' }, 'BRK-06 BRK-22 a process that has ended')
  t.match(infoOf(failure), { reason: 'WORKLOAD_NOT_FOUND', domain: 'spiffe.io', metadata: { code: 'workload_not_found' } }, 'BRK-24')
})

void t.test('X509-SVIDs of a process (Broker API §5)', async t => {
  const { admin, client, parent } = await setUp(t)
  const { pid, stop } = startSleeper(t)
  const selectors = await selectorOf(pid)
  const subscribe = () => client.subscribeToX509SVID({ reference: pidReference(pid) }, header)
  const failure = await failureOf(readStream(subscribe()).next())
  t.match(failure, { status: 'PERMISSION_DENIED', code: 'workload_not_entitled' }, 'BRK-23 found, without an entry')
  t.match(infoOf(failure), { reason: 'WORKLOAD_NOT_ENTITLED', domain: 'spiffe.io' }, 'BRK-24')

  const one = await admin.register('spiffe://example.org/one', parent, { selectors, id: 'a', hint: 'first' })
  await eventually('the agent knows the entry', async () => await codeOfFirst(subscribe()) === undefined)
  const stream = readStream(subscribe())
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
  const last = readStream(subscribe())
  await last.next()
  const here = readStream(client.subscribeToX509SVID({ reference: pidReference(process.pid) }, header))
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
  await t.rejects(readStream(client.subscribeToX509Bundles({ reference }, header)).next(), { code: 'workload_not_entitled' }, 'BRK-23')
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
  const { bundles } = await readStream(client.subscribeToX509Bundles({ reference }, header)).next()
  t.same(Object.keys(bundles), ['spiffe://example.org'], 'BRK-20 BRK-28 the own domain is among them')
  const keys = (await readStream(client.subscribeToJWTBundles({ reference }, header)).next()).bundles['spiffe://example.org'] ?? []
  t.match(JSON.parse(Buffer.from(keys).toString()), { keys: [{ kty: 'EC' }] }, 'BRK-28 JWT keys')
  t.notMatch(Buffer.from(keys).toString(), 'x5c', 'BRK-28 and those alone')
})
