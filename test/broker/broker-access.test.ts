import t from 'tap'
import { parseAgentConfig } from '../../src/agent/agent-config.ts'
import { findByNamespace } from '../../src/agent/follow-workload.ts'
import { ReferencedWorkloads } from '../../src/broker/referenced-workloads.ts'
import type { CallContext, TlsCaller } from '../../src/rpc/call.ts'
import type { TlsIdentity } from '../../src/rpc/tls-identity.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { encodeBundle } from '../../src/wire/bundle-codec.ts'
import { encodeMessage } from '../../src/wire/encode-message.ts'
import { brokerService, WorkloadPIDReference, type WorkloadReference, type WorkloadReferenceInit } from '../../src/wire/generated/broker.ts'
import { NetworkNamespaceReference } from '../../src/wire/generated/broker-reference.ts'
import { reflectionService } from '../../src/wire/generated/reflection.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import type { VerifiedX509Svid } from '../../src/x509/verify-svid.ts'
import { fakeCall } from '../fakes/call-context.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { ManualClock } from '../fakes/clock.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { eventually } from '../fakes/eventually.ts'
import { forge } from '../fakes/forge.ts'
import { any, brokerId, header, idsOf, objectReference, objectType, pidReference, pidType, setUp } from '../fakes/broker.ts'
import { readStream } from '../fakes/read-stream.ts'

const namespaceType = 'type.googleapis.com/assay.broker.v1.NetworkNamespaceReference'

void t.test('what a broker may name', async t => {
  const only = new Map([[objectType, { allowOverTcp: false }]])
  const { client } = await setUp(t, { brokers: new Map([[parseSpiffeId(brokerId), { allowedTypes: only }]]) })
  const subscribe = (reference: WorkloadReferenceInit) => readStream(client.subscribeToX509SVID({ reference }, header)).next()
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
  const subscribe = (reference: WorkloadReferenceInit) => readStream(client.subscribeToX509SVID({ reference }, header)).next()
  t.same(idsOf(await subscribe(pidReference(process.pid))), [brokerId], 'BRE-02 BRK-07 from this machine, as it is allowed')
  const notAllowed = { status: 'PERMISSION_DENIED', code: 'reference_not_allowed' }
  await t.rejects(subscribe(objectReference({})), notAllowed, 'BRK-15 a type that is not allowed over TCP')
  const asks = (async function * () { yield { listServices: '' } })()
  await t.rejects(readStream(channel.client(reflectionService).serverReflectionInfo(asks, header)).next(),
    { code: 'authorization_denied' }, 'no reflection')
})

void t.test('a broker of another trust domain', async t => {
  const guestId = parseSpiffeId('spiffe://partner.test/broker')
  const brokers = new Map([parseSpiffeId(brokerId), guestId].map(id => [id, { allowedTypes: any }]))
  const { admin, parent, clientAs, bundle } = await setUp(t, { brokers })
  const own = parseCertificate(bundle.x509Authorities[0]?.certificate ?? new Uint8Array())
  const partner = await createTestAuthority('partner.test', { subject: own.subjectDer })
  const call = async (identity: TlsIdentity) =>
    await readStream(clientAs(identity).client(brokerService).subscribeToX509SVID({ reference: pidReference(process.pid) }, header)).next()
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
