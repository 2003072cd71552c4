import t from 'tap'
import type { CallContext } from '../../src/rpc/call.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { Mailbox } from '../../src/runtime/mailbox.ts'
import { Inbox } from '../../src/sds/inbox.ts'
import { sdsHandlers } from '../../src/sds/sds-handlers.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { decodeMessage } from '../../src/wire/decode-message.ts'
import { encodeMessage } from '../../src/wire/encode-message.ts'
import {
  DeltaDiscoveryRequest, DiscoveryRequest, type DiscoveryRequestInit, type DiscoveryResponse
} from '../../src/wire/generated/envoy-sds.ts'
import { Secret } from '../../src/wire/generated/envoy-tls.ts'
import { fakeCall } from '../fakes/call-context.ts'
import { until } from '../fakes/envoy.ts'
import { FakeIdentities, identityOf } from '../fakes/identities.ts'
import { db, described, foreign, mine, own, serve, web } from '../fakes/sds.ts'

const secretType = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret'
const namesIn = (response: DiscoveryResponse) => response.resources.map(one => decodeMessage(Secret, one.value).name)

await t.test('StreamSecrets over a socket', async t => {
  const { identities, sotw, open } = await serve(t)
  identities.set(mine, identityOf(own.bundle, [web], [foreign.bundle]))
  const stream = sotw()
  stream.send({ resourceNames: ['default', 'ALL'], typeUrl: secretType, node: { id: 'n' } })
  const first = await stream.next()
  t.match(first, { versionInfo: '1', typeUrl: secretType, nonce: /^[0-9a-f]{8}$/ })
  t.same(namesIn(first).toSorted(), ['ALL', 'default'])
  t.ok(first.resources.every(one => one.typeUrl === secretType))
  stream.send({ resourceNames: ['default', 'ALL'], typeUrl: secretType, responseNonce: first.nonce, versionInfo: '1' })
  stream.send({ resourceNames: [], typeUrl: secretType, responseNonce: first.nonce, versionInfo: '1' })
  const second = await stream.next()
  t.equal(second.versionInfo, '1', 'the acknowledgement was not answered, the changed names were')
  t.same(namesIn(second).toSorted(), ['spiffe://foreign.test', 'spiffe://own.test', web.id])
  identities.set(mine, identityOf(own.bundle, [web, db]))
  t.same(namesIn(await stream.next()).toSorted(), ['spiffe://own.test', db.id, web.id], 'pushed on change')
  t.equal(open.sotw, 1)
  stream.end()
  await t.rejects(stream.next(), /has ended/, 'ends when the client does')
  await until('the stream to be gone', () => open.sotw === 0 && identities.watchers === 0)
})

await t.test('callers get what is theirs', async t => {
  const { identities, sotw, delta, client } = await serve(t)
  identities.set(mine, identityOf(own.bundle, [web]))
  identities.set([{ type: 'unix', value: 'uid:4242' }], identityOf(own.bundle, [db], [foreign.bundle]))
  const refusal = { code: 'secret_not_authorized', status: 'INVALID_ARGUMENT' }
  for (const name of [db.id, 'spiffe://foreign.test', 'spiffe://own.test/', '../web', '__proto__', 'default\u0000', web.id.toUpperCase()]) {
    const stream = sotw()
    stream.send({ resourceNames: [web.id, name] })
    await t.rejects(stream.next(), refusal, `StreamSecrets ${name}`)
    await t.rejects(client.fetchSecrets({ resourceNames: [name] }), refusal, `FetchSecrets ${name}`)
    const patient = delta()
    patient.send({ resourceNamesSubscribe: [name] })
    t.same(described(await patient.next()), [`-${name}`], `DeltaSecrets ${name}: removed, and the stream goes on`)
    patient.hangUp()
  }
  const nobody = await serve(t)
  const stream = nobody.sotw()
  stream.send({ resourceNames: ['ROOTCA'] })
  t.same(namesIn(await stream.next()), ['ROOTCA'], 'bundles are served without an identity')
  stream.hangUp()
  await t.rejects(nobody.client.fetchSecrets({ resourceNames: ['default'] }), {
    ...refusal, message: 'workload is not authorized for the requested identities ["default"]'
  })
})

await t.test('DeltaSecrets over a socket', async t => {
  const { identities, delta, counts } = await serve(t)
  const stream = delta()
  stream.send({ resourceNamesSubscribe: ['default', 'ROOTCA'], typeUrl: secretType, node: { id: 'n' } })
  const answers = [await stream.next(), await stream.next()]
  t.same(answers.flatMap(described).toSorted(), ['-default', 'ROOTCA'])
  for (const { nonce } of answers) stream.send({ responseNonce: nonce })
  identities.set(mine, identityOf(own.bundle, [web]))
  const appeared = await stream.next()
  t.same(described(appeared), ['default'], 'the identity appeared')
  const certificate = decodeMessage(Secret, appeared.resources[0]?.resource?.value ?? new Uint8Array())
  t.equal(certificate.name, 'default')
  t.equal(appeared.typeUrl, secretType)
  stream.send({ responseNonce: appeared.nonce, errorDetail: { code: 13, message: 'Failed to load private key' } })
  t.same(described(await stream.next()), ['-default'], 'refused, and there is no good one')
  t.match(counts, { 'delta acknowledged': 2, 'delta refused': 1, 'delta pushed': 4 })
  stream.hangUp()

  const back = delta()
  const version = appeared.resources[0]?.version ?? ''
  back.send({ resourceNamesSubscribe: ['default', 'ROOTCA', 'x'], initialResourceVersions: { default: version, ROOTCA: 'old', x: 'old' } })
  t.same([await back.next(), await back.next()].flatMap(described), ['ROOTCA', '-x'], 'a new stream gets what differs')
  back.hangUp()
})

await t.test('FetchSecrets and the form for old Envoys', async t => {
  const { identities, client, sotw } = await serve(t)
  identities.set(mine, identityOf(own.bundle, [web]))
  const fetched = await client.fetchSecrets({ resourceNames: ['default'], typeUrl: secretType })
  t.match(fetched, { versionInfo: '', nonce: '' }, 'no version, no nonce')
  t.same(namesIn(fetched), ['default'])
  const old = { userAgentBuildVersion: { version: { majorNumber: 1, minorNumber: 17 } } }
  const contextOf = async (node: DiscoveryRequestInit['node']) => {
    const { resources } = await client.fetchSecrets({ resourceNames: ['ROOTCA'], node })
    return decodeMessage(Secret, resources[0]?.value ?? new Uint8Array()).validationContext
  }
  t.ok((await contextOf(undefined))?.customValidatorConfig)
  t.ok((await contextOf(old))?.trustedCa, 'Envoy 1.17')
  const switchedOff = { metadata: { fields: { disable_spiffe_cert_validation: { stringValue: 'true' } } } }
  t.ok((await contextOf(switchedOff))?.trustedCa, 'switched off by metadata')
  await t.rejects(client.fetchSecrets({ resourceNames: ['ALL'], node: old }), { status: 'INTERNAL', code: 'sds_validator_unsupported' })

  const stream = sotw()
  stream.send({ resourceNames: ['ROOTCA'], node: old })
  const first = await stream.next()
  stream.send({ resourceNames: ['ROOTCA'], responseNonce: first.nonce })
  identities.set(mine, identityOf(own.bundle, [db]))
  const second = await stream.next()
  t.ok(decodeMessage(Secret, second.resources[0]?.value ?? new Uint8Array()).validationContext?.trustedCa, 'the node is remembered')
  stream.hangUp()

  const disabled = await serve(t, { disableSpiffeCertValidation: true })
  const { resources } = await disabled.client.fetchSecrets({ resourceNames: ['ROOTCA'] })
  t.ok(decodeMessage(Secret, resources[0]?.value ?? new Uint8Array()).validationContext?.trustedCa, 'switched off by configuration')
})

await t.test('refused callers', async t => {
  const failing = await serve(t, { attestWorkload: async () => { throw new SpiffeError('workload_attestation_failed', 'no attestor') } })
  const stream = failing.sotw()
  stream.send({ resourceNames: ['default'] })
  await t.rejects(stream.next(), { status: 'UNAVAILABLE', code: 'workload_attestation_failed' })
  const admit = ({ metadata }: CallContext) => {
    if (metadata.get('workload.spiffe.io')?.[0] !== 'true') throw new SpiffeError('security_header_missing', 'no security header')
  }
  const strict = await serve(t, { admit })
  const bare = strict.client.fetchSecrets({ resourceNames: ['ROOTCA'] })
  await t.rejects(bare, { code: 'security_header_missing' }, 'strictness is a setting (AMB-13)')
  t.ok(await strict.client.fetchSecrets({ resourceNames: ['ROOTCA'] }, { metadata: { 'workload.spiffe.io': 'true' } }))
})

await t.test('WLAPI-39 each push checks the caller again', async t => {
  const asking = {
    streamSecrets: decodeMessage(DiscoveryRequest, encodeMessage(DiscoveryRequest, { resourceNames: ['default'] })),
    deltaSecrets: decodeMessage(DeltaDiscoveryRequest, encodeMessage(DeltaDiscoveryRequest, { resourceNamesSubscribe: ['default'] }))
  }
  for (const method of ['streamSecrets', 'deltaSecrets'] as const) {
    const identities = new FakeIdentities(own.bundle)
    identities.set(mine, identityOf(own.bundle, [web]))
    const handlers = sdsHandlers({ attestWorkload: async () => mine, identities, clock: systemClock })
    let gone = false
    const context = fakeCall({ check: () => { if (gone) throw new SpiffeError('caller_gone', 'process 1 ended') } })
    const requests = new Mailbox<never>()
    requests.put(asking[method] as never)
    const answers = (handlers[method](requests, context) as AsyncIterable<unknown>)[Symbol.asyncIterator]()
    t.equal((await answers.next()).done, false)
    gone = true
    identities.set(mine, identityOf(own.bundle, [await own.issue('/web')]))
    await t.rejects(answers.next(), { code: 'caller_gone' }, method)
    await until('the watch to end', () => identities.watchers === 0)
  }
})

await t.test('a stream that ends lets go of both its sources, also of what they were just handing over', async t => {
  let open = 0
  async function * source () {
    open++
    try {
      for (let i = 0; ; i++) yield i
    } finally {
      open--
    }
  }
  {
    using inbox = new Inbox(source(), source())
    await inbox.take()
    await until('both to wait with their next', () => open === 2)
  }
  await until('both to be closed', () => open === 0)
  t.equal(open, 0)
  async function * broken () {
    yield 1
    throw new Error('broken')
  }
  using failing = new Inbox(source(), broken())
  await t.rejects((async () => { while (await failing.take() !== undefined); })(), { message: 'broken' })
})
