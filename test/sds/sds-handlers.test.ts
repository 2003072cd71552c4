import { createPrivateKey, X509Certificate } from 'node:crypto'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { bind } from '../../src/rpc/bound-service.ts'
import type { CallContext } from '../../src/rpc/call.ts'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { openRpcServer } from '../../src/rpc/server.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import type { ValidationForm } from '../../src/sds/envoy-node.ts'
import { openSecretViews } from '../../src/sds/identity-secrets.ts'
import { Inbox } from '../../src/sds/inbox.ts'
import { defaultAliases } from '../../src/sds/resource-names.ts'
import type { SdsKind } from '../../src/sds/sds-events.ts'
import { sdsHandlers, type SdsDeps } from '../../src/sds/sds-handlers.ts'
import type { SecretView } from '../../src/sds/secret-resource.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import type { WorkloadIdentity, X509Svid } from '../../src/spiffe/svid.ts'
import { decodeMessage } from '../../src/wire/decode-message.ts'
import { encodeMessage } from '../../src/wire/encode-message.ts'
import {
  DeltaDiscoveryRequest, type DeltaDiscoveryRequestInit, type DeltaDiscoveryResponse, DiscoveryRequest, type DiscoveryRequestInit,
  type DiscoveryResponse, secretDiscoveryService
} from '../../src/wire/generated/envoy-sds.ts'
import { Secret, SPIFFECertValidatorConfig } from '../../src/wire/generated/envoy-tls.ts'
import { fakeCall } from '../fakes/call-context.ts'
import { until } from '../fakes/envoy.ts'
import { FakeIdentities, identityOf, TestTrustDomain } from '../fakes/identities.ts'

const own = await TestTrustDomain.create('own.test')
const foreign = await TestTrustDomain.create('foreign.test')
const web = await own.issue('/web')
const db = await own.issue('/db')
const mine = [{ type: 'unix', value: `uid:${process.getuid?.()}` }]
const secretType = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret'
const text = (bytes: Uint8Array | undefined) => Buffer.from(bytes ?? '').toString()

function secretOf (view: SecretView, name: string, at = new Date()): Secret | undefined {
  const found = view.find(name, at)
  return found.kind === 'usable' ? decodeMessage(Secret, found.resource.value) : undefined
}

function trustDomainsOf (secret: Secret | undefined): Record<string, string> {
  const { name, typedConfig } = secret?.validationContext?.customValidatorConfig ?? {}
  if (name !== 'envoy.tls.cert_validator.spiffe') return {}
  const { trustDomains } = decodeMessage(SPIFFECertValidatorConfig, typedConfig?.value ?? new Uint8Array())
  return Object.fromEntries(trustDomains.map(one => [one.name, text(one.trustBundle?.inlineBytes)]))
}

await t.test('secrets of an identity (spire-surface §4.1)', async t => {
  const view = (identity: WorkloadIdentity, form: ValidationForm = 'spiffe') => openSecretViews(defaultAliases)(identity, form)
  const full = identityOf(own.bundle, [web, db], [foreign.bundle])

  await t.test('certificates', async t => {
    for (const [name, svid] of [['default', web], [web.id, web], [db.id, db]] as const) {
      const { tlsCertificate } = secretOf(view(full), name) ?? {}
      const leaf = new X509Certificate(text(tlsCertificate?.certificateChain?.inlineBytes))
      const key = text(tlsCertificate?.privateKey?.inlineBytes)
      t.equal(leaf.subjectAltName, `URI:${svid.id}`, name)
      t.match(key, /^-----BEGIN PRIVATE KEY-----\n/, 'PKCS#8')
      t.ok(leaf.checkPrivateKey(createPrivateKey(key)))
    }
    const chained = secretOf(view(identityOf(own.bundle, [{ ...web, chain: [...web.chain, foreign.root] }])), 'default')
    const pem = text(chained?.tlsCertificate?.certificateChain?.inlineBytes)
    t.equal(pem.match(/BEGIN CERTIFICATE/g)?.length, 2)
    t.equal(new X509Certificate(pem).subjectAltName, `URI:${web.id}`, 'leaf first')
    const hinted = view(identityOf(own.bundle, [{ ...web, hint: 'x' }, { ...db, hint: 'x' }]))
    t.ok(secretOf(hinted, web.id) && secretOf(hinted, db.id), 'hints play no part')
  })

  await t.test('bundles', async t => {
    const spiffe = view(full)
    t.same(Object.keys(trustDomainsOf(secretOf(spiffe, 'ROOTCA'))), ['own.test'])
    t.same(Object.keys(trustDomainsOf(secretOf(spiffe, 'spiffe://own.test'))), ['own.test'])
    t.same(Object.keys(trustDomainsOf(secretOf(spiffe, 'spiffe://foreign.test'))), ['foreign.test'])
    const all = trustDomainsOf(secretOf(spiffe, 'ALL'))
    t.same(Object.keys(all), ['foreign.test', 'own.test'], 'sorted by name, without the scheme')
    t.ok(Buffer.from(own.root).equals(new X509Certificate(all['own.test'] ?? '').raw), 'each domain with its own CA')
    t.ok(Buffer.from(foreign.root).equals(new X509Certificate(all['foreign.test'] ?? '').raw))
    const plain = view(full, 'plain')
    for (const [name, root] of [['ROOTCA', own.root], ['spiffe://own.test', own.root], ['spiffe://foreign.test', foreign.root]] as const) {
      const { validationContext } = secretOf(plain, name) ?? {}
      t.ok(Buffer.from(root).equals(new X509Certificate(text(validationContext?.trustedCa?.inlineBytes)).raw), `plain ${name}`)
      t.equal(validationContext?.customValidatorConfig, undefined)
    }
    t.same(plain.find('ALL', new Date()), { kind: 'unsupported', name: 'ALL' })
    t.same([...spiffe.allNames], ['spiffe://own.test', 'spiffe://foreign.test', web.id, db.id])
    const without = view(identityOf(own.bundle, []))
    t.same([without.find('default', new Date()), without.find(web.id, new Date())], [{ kind: 'absent' }, { kind: 'absent' }])
    t.ok(secretOf(without, 'ALL'), 'bundles are served without an identity')
  })

  await t.test('what Envoy would refuse is held back', async t => {
    const empty = { ...foreign.bundle, x509Authorities: [] }
    const broken = { ...foreign.bundle, x509Authorities: [{ certificate: Buffer.from('garbage'), tainted: false }] }
    const unfit: Record<string, [identity: WorkloadIdentity, name: string]> = {
      'the key of another certificate': [identityOf(own.bundle, [{ ...web, privateKey: db.privateKey }]), 'default'],
      'a key that does not parse': [identityOf(own.bundle, [{ ...web, privateKey: Buffer.from('garbage') }]), 'default'],
      'a certificate for another ID': [identityOf(own.bundle, [{ ...web, id: db.id }]), db.id],
      'a chain that does not parse': [identityOf(own.bundle, [{ ...web, chain: [Buffer.from('garbage')] }]), 'default'],
      'an intermediate that does not parse': [identityOf(own.bundle, [{ ...web, chain: [...web.chain, Buffer.from('x')] }]), 'default'],
      'an empty chain': [identityOf(own.bundle, [{ ...web, chain: [] }]), 'default'],
      'an end that is not the certificate\'s': [identityOf(own.bundle, [{ ...web, notAfter: new Date(0) }]), 'default'],
      'an empty bundle': [identityOf({ ...own.bundle, x509Authorities: [] }, []), 'ROOTCA'],
      'a bundle that does not parse': [identityOf(own.bundle, [], [broken]), 'spiffe://foreign.test'],
      'an own bundle that is empty, in ALL': [identityOf({ ...own.bundle, x509Authorities: [] }, [], [foreign.bundle]), 'ALL']
    }
    for (const [title, [identity, name]] of Object.entries(unfit)) {
      const found = view(identity).find(name, new Date())
      t.equal(found.kind, 'unusable', title)
      if (found.kind === 'unusable') t.notMatch(found.reason, /PRIVATE KEY/)
    }
    t.equal(view(full).find('default', new Date(web.notAfter.getTime() - 1)).kind, 'usable')
    t.equal(view(full).find('default', web.notAfter).kind, 'unusable', 'expired')
    for (const bad of [empty, broken]) {
      t.same(Object.keys(trustDomainsOf(secretOf(view(identityOf(own.bundle, [], [bad])), 'ALL'))), ['own.test'],
        'a partner\'s broken bundle does not take the others down')
    }
  })

  await t.test('versions are made of content, and work is shared', async t => {
    const viewOf = openSecretViews(defaultAliases)
    const resourceOf = (identity: WorkloadIdentity, name: string, views = viewOf) => {
      const found = views(identity, 'spiffe').find(name, new Date())
      if (found.kind !== 'usable') throw new Error(`${name} is ${found.kind}`)
      return found.resource
    }
    const later = identityOf(full.bundle, [web, await own.issue('/db')], [foreign.bundle], 2)
    t.equal(resourceOf(full, web.id).value, resourceOf(later, web.id).value, 'an SVID that did not change is not encoded again')
    t.equal(resourceOf(full, 'ALL').version, resourceOf(later, 'ALL').version)
    t.not(resourceOf(full, db.id).version, resourceOf(later, db.id).version)
    t.equal(resourceOf(full, web.id).version, resourceOf(full, web.id, openSecretViews(defaultAliases)).version, 'the same after a restart')
    const { version: one } = resourceOf(identityOf(own.bundle, [], [foreign.bundle]), 'ALL')
    t.not(one, resourceOf(identityOf(own.bundle, []), 'ALL').version, 'a change of a partner changes ALL')
  })
})

class Outbox<T> implements AsyncIterable<T> {
  readonly #waiting: T[] = []
  #wake: (() => void) | undefined
  #ended = false

  send (item: T): void {
    this.#waiting.push(item)
    this.#wake?.()
  }

  end (): void {
    this.#ended = true
    this.#wake?.()
  }

  async * [Symbol.asyncIterator] (): AsyncGenerator<T, void, undefined> {
    for (;;) {
      const next = this.#waiting.shift()
      if (next !== undefined) yield next
      else if (this.#ended) return
      else await new Promise<void>(resolve => { this.#wake = resolve })
    }
  }
}

async function serve (t: Test, options: Partial<SdsDeps> = {}) {
  const folder = await mkdtemp(join(tmpdir(), 'sds-'))
  const path = join(folder, 'api.sock')
  const identities = new FakeIdentities(own.bundle)
  const open = { sotw: 0, delta: 0, fetch: 0 }
  const counts: Record<string, number> = {}
  const count = (what: string) => (kind: SdsKind) => { counts[`${kind} ${what}`] = (counts[`${kind} ${what}`] ?? 0) + 1 }
  const deps: SdsDeps = {
    attestWorkload: async ({ caller }) => caller.kind === 'unix' ? [{ type: 'unix', value: `uid:${caller.peer.uid}` }] : [],
    identities,
    clock: systemClock,
    metrics: {
      streams (kind, change) { open[kind] += change },
      pushed: count('pushed'),
      acknowledged: count('acknowledged'),
      refused: count('refused')
    },
    ...options
  }
  const server = openRpcServer({ services: [bind(secretDiscoveryService, sdsHandlers(deps))], log: silentLogger, clock: systemClock })
  await server.listenUnix({ path })
  const channel = openUnixChannel(path)
  const client = channel.client(secretDiscoveryService)
  const { streamSecrets, deltaSecrets } = client
  t.teardown(async () => {
    await channel[Symbol.asyncDispose]()
    await server[Symbol.asyncDispose]()
    await rm(folder, { recursive: true })
    if (identities.watchers > 0 || open.sotw + open.delta > 0) throw new Error('a stream was left behind')
  })
  return {
    identities, client, open, counts, path,
    sotw: () => conversation<DiscoveryRequestInit, DiscoveryResponse>((requests, signal) => streamSecrets(requests, { signal })),
    delta: () => conversation<DeltaDiscoveryRequestInit, DeltaDiscoveryResponse>((requests, signal) => deltaSecrets(requests, { signal }))
  }
}

function conversation<Request, Response> (call: (requests: AsyncIterable<Request>, signal: AbortSignal) => AsyncIterable<Response>) {
  const stop = new AbortController()
  const outbox = new Outbox<Request>()
  const answers = call(outbox, stop.signal)[Symbol.asyncIterator]()
  return {
    send: (request: Request) => outbox.send(request),
    async next (): Promise<Response> {
      const { value, done } = await answers.next()
      if (done === true) throw new Error('the stream has ended')
      return value
    },
    hangUp: () => stop.abort(),
    end: () => outbox.end()
  }
}

const namesIn = (response: DiscoveryResponse) => response.resources.map(one => decodeMessage(Secret, one.value).name)
const described = ({ resources, removedResources }: DeltaDiscoveryResponse) =>
  [...resources.map(one => one.name), ...removedResources.map(name => `-${name}`)]

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
    const requests = new Outbox<never>()
    requests.send(asking[method] as never)
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

await t.test('a hostile client', async t => {
  const { identities, sotw, delta, client, open, path } = await serve(t)
  identities.set(mine, identityOf(own.bundle, [web]))
  const names = Array.from({ length: 1001 }, (_, i) => `spiffe://own.test/${i}`)

  await t.test('asks for very many or very long names', async t => {
    const refusal = { code: 'argument_invalid', status: 'INVALID_ARGUMENT' }
    for (const resourceNames of [names, ['x'.repeat(2049)]]) {
      const stream = sotw()
      stream.send({ resourceNames })
      await t.rejects(stream.next(), refusal)
      const incremental = delta()
      incremental.send({ resourceNamesSubscribe: resourceNames })
      await t.rejects(incremental.next(), refusal)
      await t.rejects(client.fetchSecrets({ resourceNames }), refusal)
    }
  })

  await t.test('floods one stream with requests and reads nothing, while another is served', async t => {
    const flood = delta()
    for (let i = 0; i < 2000; i++) flood.send({ resourceNamesSubscribe: names.slice(0, 100), responseNonce: `${i}` })
    const polite = delta()
    polite.send({ resourceNamesSubscribe: ['default'] })
    t.same(described(await polite.next()), ['default'])
    identities.set(mine, identityOf(own.bundle, [await own.issue('/web')]))
    t.same(described(await polite.next()), ['default'])
    polite.hangUp()
    flood.hangUp()
    await until('both to be gone', () => open.delta === 0)
  })

  await t.test('opens 1 000 streams and goes away', async t => {
    const descriptors = async () => (await readdir('/proc/self/fd')).length
    const before = await descriptors()
    const channels = Array.from({ length: 10 }, () => openUnixChannel(path))
    const streams = channels.flatMap(channel => Array.from({ length: 100 }, () => {
      const { deltaSecrets } = channel.client(secretDiscoveryService)
      return conversation<DeltaDiscoveryRequestInit, DeltaDiscoveryResponse>((requests, signal) => deltaSecrets(requests, { signal }))
    }))
    for (const stream of streams) stream.send({ resourceNamesSubscribe: ['default', 'ALL'] })
    await Promise.all(streams.map(stream => stream.next()))
    t.same([open.delta, identities.watchers], [1000, 1000])
    const pending = streams.map(async stream => {
      try {
        for (;;) await stream.next()
      } catch {}
    })
    identities.set(mine, identityOf(own.bundle, [await own.issue('/web')]))
    await Promise.all(channels.map(channel => channel[Symbol.asyncDispose]()))
    await Promise.all(pending)
    await until('the streams to be gone', () => open.delta === 0 && identities.watchers === 0)
    await until('the descriptors to be closed', async () => await descriptors() <= before)
    t.pass('no watch and no descriptor is left')
  })
})

await t.test('200 streams of one workload share the work of one', async t => {
  const { identities, delta } = await serve(t)
  let read = 0
  const svid: X509Svid = { ...web, get privateKey () { read++; return web.privateKey } }
  identities.set(mine, identityOf(own.bundle, [svid]))
  const streams = Array.from({ length: 200 }, delta)
  for (const stream of streams) stream.send({ resourceNamesSubscribe: ['default'] })
  await Promise.all(streams.map(stream => stream.next()))
  t.equal(read, 2, 'the key was checked once and encoded once')
  for (const stream of streams) stream.hangUp()
})
