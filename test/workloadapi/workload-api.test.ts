import { createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Client, credentials, Metadata, status } from '@grpc/grpc-js'
import { SignJWT } from 'jose'
import t, { type Test } from 'tap'
import { bind } from '../../src/rpc/bound-service.ts'
import type { CallContext } from '../../src/rpc/call.ts'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { openRpcServer } from '../../src/rpc/server.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import type { Selector } from '../../src/spiffe/selector.ts'
import type { JwtSvid } from '../../src/spiffe/svid.ts'
import { decodeMessage } from '../../src/wire/decode-message.ts'
import { encodeMessage } from '../../src/wire/encode-message.ts'
import type { Encoded } from '../../src/wire/encoded.ts'
import {
  JWTBundlesResponse, JWTSVIDRequest, ValidateJWTSVIDResponse, workloadService, X509SVIDResponse
} from '../../src/wire/generated/workload.ts'
import type { Value } from '../../src/wire/generated/well-known.ts'
import { encodeStruct } from '../../src/workloadapi/struct-codec.ts'
import { withUniqueHints } from '../../src/workloadapi/unique-hints.ts'
import { visibleClaims } from '../../src/workloadapi/validated-claims.ts'
import { workloadHandlers, type WorkloadApiDeps } from '../../src/workloadapi/workload-handlers.ts'
import { fakeCall } from '../fakes/call-context.ts'
import { grpcMessage, rawCall, unixTarget } from '../faults/listeners.ts'
import { FakeIdentities, identityOf, TestTrustDomain } from '../fakes/identities.ts'
import { readStream } from '../fakes/read-stream.ts'

const own = await TestTrustDomain.create('own.test')
const foreign = await TestTrustDomain.create('foreign.test')
const web = await own.issue('/web', { hint: 'internal' })
const admin = await own.issue('/admin', { hint: 'external' })
const unavailable = { name: 'RpcError', status: 'UNAVAILABLE' }
const denied = { name: 'RpcError', status: 'PERMISSION_DENIED' }
const unimplemented = { name: 'RpcError', status: 'UNIMPLEMENTED' }
const invalid = { name: 'RpcError', status: 'INVALID_ARGUMENT' }
const header = { 'workload.spiffe.io': 'true' }
const mine: readonly Selector[] = [{ type: 'unix', value: `uid:${process.getuid?.()}` }]

async function serve (t: Test, options: Partial<WorkloadApiDeps> = {}) {
  const folder = await mkdtemp(join(tmpdir(), 'workload-'))
  const path = join(folder, 'api.sock')
  const identities = new FakeIdentities(own.bundle)
  const callers: CallContext['caller'][] = []
  const attestWorkload = async (context: CallContext): Promise<readonly Selector[]> => {
    callers.push(context.caller)
    return context.caller.kind === 'unix' ? [{ type: 'unix', value: `uid:${context.caller.peer.uid}` }] : []
  }
  const handlers = workloadHandlers({ attestWorkload, identities, clock: systemClock, ...options })
  const server = openRpcServer({ services: [bind(workloadService, handlers)], log: silentLogger, clock: systemClock })
  await server.listenUnix({ path })
  const channel = openUnixChannel(path)
  t.teardown(async () => {
    await channel[Symbol.asyncDispose]()
    await server[Symbol.asyncDispose]()
    await rm(folder, { recursive: true })
    if (identities.watchers > 0) throw new Error('a watch was left behind')
  })
  return { identities, callers, client: channel.client(workloadService), handlers, channel, path }
}

/** Our own client cannot send a header twice. */
function statusWithTwoValues (path: string): Promise<number> {
  const client = new Client(`unix:${path}`, credentials.createInsecure())
  const metadata = new Metadata()
  metadata.add('workload.spiffe.io', 'true')
  metadata.add('workload.spiffe.io', 'true')
  const empty = Buffer.alloc(0)
  return new Promise(resolve => {
    const stream = client.makeServerStreamRequest('/SpiffeWorkloadAPI/FetchX509SVID', () => empty, bytes => bytes, empty, metadata)
    stream.on('error', () => undefined).on('data', () => undefined).on('status', ended => {
      client.close()
      resolve(ended.code)
    })
  })
}

function within (bundles: Readonly<Record<string, Uint8Array>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(bundles).map(([id, bytes]) => [id, JSON.parse(Buffer.from(bytes).toString())]))
}

await t.test('the endpoint (Workload Endpoint)', async t => {
  const { identities, callers, client, path } = await serve(t)
  identities.set(mine, identityOf(own.bundle, [web]))

  await t.test('calls without the security header are refused', async t => {
    const refused: Record<string, Record<string, string>> = {
      'WLE-05 absent': {},
      'WLE-05 empty': { 'workload.spiffe.io': '' },
      'WLE-05 the value is case-sensitive': { 'workload.spiffe.io': 'TRUE' },
      'WLE-05 another value': { 'workload.spiffe.io': '1' },
      'WLE-05 false': { 'workload.spiffe.io': 'false' }
    }
    for (const [title, metadata] of Object.entries(refused)) {
      const expected = { status: 'INVALID_ARGUMENT', code: 'security_header_missing', message: 'security header missing from request' }
      await t.rejects(readStream(client.fetchX509SVID({}, { metadata })).next(), expected, `${title}: FetchX509SVID`)
      await t.rejects(readStream(client.fetchX509Bundles({}, { metadata })).next(), expected, `${title}: FetchX509Bundles`)
      await t.rejects(readStream(client.fetchJWTBundles({}, { metadata })).next(), expected, `${title}: FetchJWTBundles`)
      await t.rejects(client.fetchJWTSVID({ audience: ['a'] }, { metadata }), expected, `${title}: FetchJWTSVID`)
      await t.rejects(client.validateJWTSVID({ audience: 'a', svid: 'x' }, { metadata }), expected, `${title}: ValidateJWTSVID`)
    }
    t.equal(await statusWithTwoValues(path), status.INVALID_ARGUMENT, 'WLE-05 two values')
    t.equal(callers.length, 0, 'and before anything is found out about the caller')
  })

  await t.test('a local caller is known by its process', async t => {
    const stream = readStream(client.fetchX509SVID({}, { metadata: header }))
    const { svids } = await stream.next()
    t.equal(svids[0]?.spiffeId, web.id, 'WLE-02, WLE-04 served over gRPC to a caller with the header')
    t.match(callers[0], { kind: 'unix', peer: { pid: process.pid, uid: process.getuid?.() } },
      'WLE-12 the kernel says who calls')
    await stream.close()
  })

  await t.test('plain HTTP/2 and the security header are all it takes', async t => {
    identities.jwtSvids = [{ id: web.id, token: 'token', issuedAt: new Date(), expiresAt: new Date(Date.now() + 60_000), hint: '' }]
    const socket = unixTarget('the endpoint', path)
    const request = grpcMessage(encodeMessage(JWTSVIDRequest, { audience: ['db'] }))
    const { status } = await rawCall(socket, '/SpiffeWorkloadAPI/FetchJWTSVID', request, header)
    t.equal(status, '0', 'WLE-06, WLE-11 no TLS, token or client certificate')
  })

  await t.test('statuses', async t => {
    const failing = await serve(t, { attestWorkload: async () => { throw new SpiffeError('workload_attestation_failed', 'no attestor') } })
    await t.rejects(readStream(failing.client.fetchX509SVID({}, { metadata: header })).next(), unavailable, 'WLE-13')
    const unknown = await serve(t)
    await t.rejects(readStream(unknown.client.fetchX509SVID({}, { metadata: header })).next(),
      { status: 'PERMISSION_DENIED', message: 'no identity issued' }, 'WLE-14')
    await t.rejects(readStream(client.fetchWITSVID({}, { metadata: header })).next(), unimplemented, 'WLE-16, WLAPI-02 FetchWITSVID')
    await t.rejects(readStream(client.fetchWITBundles({}, { metadata: header })).next(), unimplemented, 'WLE-16, WLAPI-02 FetchWITBundles')
  })
})

await t.test('the service is the standard\'s, with nothing added (Workload API §2, §3)', async t => {
  t.equal(workloadService.name, 'SpiffeWorkloadAPI', 'WLAPI-04, AMB-09 the name on the wire, without package')
  t.same(Object.values(workloadService.methods).map(method => `${method.kind} ${method.name}`), [
    'serverStream FetchX509SVID', 'serverStream FetchX509Bundles', 'unary FetchJWTSVID', 'serverStream FetchJWTBundles',
    'unary ValidateJWTSVID', 'serverStream FetchWITSVID', 'serverStream FetchWITBundles'
  ], 'WLAPI-03, WLE-18 RPCs')
  const fields = (type: { readonly fields: readonly { readonly number: number, readonly name: string }[] }) =>
    type.fields.map(field => `${field.number} ${field.name}`)
  t.same(fields(X509SVIDResponse), ['1 svids', '2 crl', '3 federatedBundles'], 'WLAPI-03')
  t.same(fields(JWTBundlesResponse), ['1 bundles'], 'WLAPI-03')
  t.same(fields(ValidateJWTSVIDResponse), ['1 spiffeId', '2 claims'], 'WLAPI-03')
})

await t.test('FetchX509SVID', async t => {
  await t.test('the whole state at once and after each change', async t => {
    const { identities, client } = await serve(t)
    identities.set(mine, identityOf(own.bundle, [web, admin], [foreign.bundle]))
    const stream = readStream(client.fetchX509SVID({}, { metadata: header }))
    const first = await stream.next()
    t.same(first.svids.map(svid => [svid.spiffeId, svid.hint]), [[web.id, 'internal'], [admin.id, 'external']],
      'WLAPI-01, WLAPI-08, WLAPI-13, WLAPI-35 all identities at once, in entry order')
    for (const [index, svid] of [web, admin].entries()) {
      const sent = first.svids[index]
      const leaf = new X509Certificate(sent?.x509Svid ?? '')
      t.equal(leaf.subjectAltName, `URI:${svid.id}`, 'WLAPI-14 DER, leaf first')
      const key = createPrivateKey({ key: Buffer.from(sent?.x509SvidKey ?? ''), format: 'der', type: 'pkcs8' })
      t.ok(leaf.checkPrivateKey(key), 'WLAPI-14 the key is unencrypted PKCS#8 and the certificate\'s')
      t.same(Buffer.from(sent?.bundle ?? ''), Buffer.from(own.root), 'WLAPI-13 the own bundle')
    }
    t.same(Object.keys(first.federatedBundles), ['spiffe://foreign.test'], 'WLAPI-15 foreign domains only, by their SPIFFE ID')
    t.same(Buffer.from(first.federatedBundles['spiffe://foreign.test'] ?? ''), Buffer.from(foreign.root), 'WLAPI-18 CA certificates')

    const renewed = await own.issue('/web')
    identities.set(mine, identityOf(own.bundle, [renewed]))
    const second = await stream.next()
    t.same(second.svids.map(svid => svid.spiffeId), [web.id], 'WLAPI-07, WLAPI-09 a change brings the whole state, not a delta')
    t.same(Buffer.from(second.svids[0]?.x509Svid ?? ''), Buffer.concat(renewed.chain))
    t.same(second.federatedBundles, {}, 'WLAPI-07 what is gone is not there')

    identities.set(mine, identityOf(own.bundle, []))
    await t.rejects(stream.next(), { status: 'PERMISSION_DENIED', message: 'no identity issued' },
      'WLAPI-16, WLAPI-17 the last identity gone: never an empty list')
  })

  await t.test('chains, bundles of several certificates, and hints', async t => {
    const { identities, client } = await serve(t)
    const chained = { ...web, chain: [...web.chain, foreign.root] }
    const twice = { ...own.bundle, x509Authorities: [...own.bundle.x509Authorities, ...foreign.bundle.x509Authorities] }
    const rival = { ...admin, hint: 'internal' }
    identities.set(mine, identityOf(twice, [chained, rival, { ...admin, hint: '' }, { ...admin, hint: '' }]))
    const stream = readStream(client.fetchX509SVID({}, { metadata: header }))
    const { svids } = await stream.next()
    t.same(svids.map(svid => [svid.spiffeId, svid.hint]), [[web.id, 'internal'], [admin.id, ''], [admin.id, '']],
      'WLAPI-36 of two with one hint the oldest stays; without a hint all do')
    t.same(Buffer.from(svids[0]?.x509Svid ?? ''), Buffer.concat([...web.chain, foreign.root]), 'WLAPI-14 intermediates follow the leaf')
    t.same(Buffer.from(svids[0]?.bundle ?? ''), Buffer.concat([own.root, foreign.root]), 'DER values back to back (AMB-20)')
    await stream.close()
    const hints = withUniqueHints(['x'.repeat(1024), 'é'.repeat(513)].map(hint => ({ hint }))).map(({ hint }) => hint.length)
    t.same(hints, [1024, 0], 'WLAPI-37 longer than 1024 bytes is left out')
  })

  await t.test('what a caller says makes no difference', async t => {
    const { identities, client } = await serve(t)
    identities.set(mine, identityOf(own.bundle, [web]))
    identities.set([{ type: 'unix', value: 'uid:4242' }], identityOf(own.bundle, [admin]))
    const metadata = { ...header, 'x-uid': '4242', authorization: 'Bearer admin', 'spiffe-id': admin.id }
    const stream = readStream(client.fetchX509SVID({}, { metadata }))
    t.same((await stream.next()).svids.map(svid => svid.spiffeId), [web.id], 'WLAPI-05')
    await stream.close()
  })

  await t.test('a state in which nothing changed for the caller is not pushed', async t => {
    const { identities, client } = await serve(t)
    identities.set(mine, identityOf(own.bundle, [web]))
    const stream = readStream(client.fetchX509SVID({}, { metadata: header }))
    await stream.next()
    identities.set(mine, identityOf(own.bundle, [web], [], 2))
    const next = stream.next()
    identities.set(mine, identityOf(own.bundle, [admin], [], 3))
    t.equal((await next).svids[0]?.spiffeId, admin.id, 'WLAPI-09 messages follow changes')
    await stream.close()
  })
})

await t.test('each push checks the caller again and stops when the call is cancelled', async t => {
  const identities = new FakeIdentities(own.bundle)
  identities.set(mine, identityOf(own.bundle, [web]))
  const handlers = workloadHandlers({ attestWorkload: async () => mine, identities, clock: systemClock })
  const metadata = { 'workload.spiffe.io': ['true'] }
  const { fetchX509SVID: FetchX509SVID, fetchX509Bundles: FetchX509Bundles, fetchJWTBundles: FetchJWTBundles } = handlers
  const calls = { FetchX509SVID, FetchX509Bundles, FetchJWTBundles }
  for (const [name, call] of Object.entries(calls)) {
    let gone = false
    const check = () => { if (gone) throw new SpiffeError('caller_gone', 'process 1 ended') }
    const stream = (call({}, fakeCall({ metadata, check })) as AsyncIterable<unknown>)[Symbol.asyncIterator]()
    t.equal((await stream.next()).done, false)
    gone = true
    identities.set(mine, identityOf(foreign.bundle, [admin]))
    await t.rejects(stream.next(), { code: 'caller_gone' }, `WLAPI-39 ${name}: nothing is pushed to another process`)
    identities.set(mine, identityOf(own.bundle, [web]))

    const cancelled = new AbortController()
    const second = (call({}, fakeCall({ metadata, signal: cancelled.signal })) as AsyncIterable<unknown>)[Symbol.asyncIterator]()
    await second.next()
    const pending = second.next()
    cancelled.abort()
    t.equal((await pending).done, true, `WLAPI-39 ${name}: cancelled`)
  }
  t.equal(identities.watchers, 0)
})

await t.test('a thousand streams of one workload share one encoding', async t => {
  const identities = new FakeIdentities(own.bundle)
  identities.set(mine, identityOf(own.bundle, [web]))
  const { fetchX509SVID } = workloadHandlers({ attestWorkload: async () => mine, identities, clock: systemClock })
  const stop = new AbortController()
  const context = fakeCall({ metadata: { 'workload.spiffe.io': ['true'] }, signal: stop.signal })
  const streams = Array.from({ length: 1000 }, () => fetchX509SVID({}, context)[Symbol.asyncIterator]())
  const answers = await Promise.all(streams.map(async stream => (await stream.next()).value as Encoded<X509SVIDResponse>))
  t.equal(new Set(answers.map(answer => answer.bytes)).size, 1)
  t.equal(decodeMessage(X509SVIDResponse, answers[0]?.bytes ?? new Uint8Array()).svids[0]?.spiffeId, web.id)
  t.equal(identities.watchers, 1000)
  const pending = streams.map(stream => stream.next())
  stop.abort()
  await Promise.all(pending)
  t.equal(identities.watchers, 0, 'and leave nothing behind')
})

await t.test('FetchX509Bundles and FetchJWTBundles', async t => {
  await t.test('own and federated bundles, pushed when they change', async t => {
    const { identities, client } = await serve(t)
    identities.set(mine, identityOf(own.bundle, [web], [foreign.bundle]))
    const x509 = readStream(client.fetchX509Bundles({}, { metadata: header }))
    const jwt = readStream(client.fetchJWTBundles({}, { metadata: header }))
    const certificates = (await x509.next()).bundles
    t.same(Object.keys(certificates).toSorted(), ['spiffe://foreign.test', 'spiffe://own.test'], 'WLAPI-19 own domain and foreign ones')
    t.same(Buffer.from(certificates['spiffe://own.test'] ?? ''), Buffer.from(own.root), 'WLAPI-18 CA certificates only')
    const sets = within((await jwt.next()).bundles)
    t.same(Object.keys(sets).toSorted(), ['spiffe://foreign.test', 'spiffe://own.test'], 'WLAPI-25 own domain present, by SPIFFE ID')
    const jwk = createPublicKey(own.jwtKey.privateKey).export({ format: 'jwk' })
    t.same(sets['spiffe://own.test'], { keys: [{ kid: 'own.test-key', ...jwk }] },
      'WLAPI-25, WLAPI-26 a JWK Set of the signing keys, without `use` (AMB-12), and no private part')

    // Another SVID, the same bundles: neither stream has anything to say. Then one thing changes for each.
    identities.set(mine, identityOf(own.bundle, [admin], [foreign.bundle]))
    const nextX509 = x509.next()
    const nextJwt = jwt.next()
    const noKeys: Bundle = { ...own.bundle, jwtAuthorities: [] }
    identities.set(mine, identityOf(noKeys, [admin]))
    t.same(Object.keys((await nextX509).bundles), ['spiffe://own.test'], 'unchanged answers are not repeated; a withdrawn bundle is gone')
    t.same(within((await nextJwt).bundles), { 'spiffe://own.test': { keys: [] } }, 'WLAPI-25 the own domain is there even without a key')

    identities.set(mine, identityOf(own.bundle, []))
    await t.rejects(x509.next(), denied, 'WLAPI-20 nothing allowed any more')
    await t.rejects(jwt.next(), denied, 'WLAPI-27 nothing allowed any more')
  })

  await t.test('callers without an identity', async t => {
    const closed = await serve(t)
    await t.rejects(readStream(closed.client.fetchX509Bundles({}, { metadata: header })).next(), denied, 'WLAPI-20')
    await t.rejects(readStream(closed.client.fetchJWTBundles({}, { metadata: header })).next(), denied, 'WLAPI-27')
    const { identities, client } = await serve(t, { allowUnauthenticatedVerifiers: true })
    identities.set(mine, identityOf(own.bundle, [], [foreign.bundle]))
    const x509 = readStream(client.fetchX509Bundles({}, { metadata: header }))
    const jwt = readStream(client.fetchJWTBundles({}, { metadata: header }))
    t.same(Object.keys((await x509.next()).bundles), ['spiffe://own.test'], 'unauthenticated verifiers get the own domain only')
    t.same(Object.keys((await jwt.next()).bundles), ['spiffe://own.test'])
    await t.rejects(readStream(client.fetchX509SVID({}, { metadata: header })).next(), denied, 'and no SVID')
    await x509.close()
    await jwt.close()
  })
})

await t.test('FetchJWTSVID', async t => {
  const { identities, client } = await serve(t)
  const jwtSvid = (id: JwtSvid['id'], hint = ''): JwtSvid =>
    ({ id, token: `token-of-${id}`, issuedAt: new Date(), expiresAt: new Date(Date.now() + 60_000), hint })
  identities.jwtSvids = [jwtSvid(web.id, 'same'), jwtSvid(admin.id)]
  const fetch = (audience: string[], spiffeId = '') => client.fetchJWTSVID({ audience, spiffeId }, { metadata: header })
  t.same((await fetch(['a', 'b'])).svids, [
    { spiffeId: web.id, svid: `token-of-${web.id}`, hint: 'same' }, { spiffeId: admin.id, svid: `token-of-${admin.id}`, hint: '' }
  ], 'WLAPI-22, WLAPI-23 tokens for all identities')
  t.same((await fetch(['a'], admin.id)).svids.map(svid => svid.spiffeId), [admin.id], 'WLAPI-22 only the one asked for')
  t.same(identities.jwtRequests.map(({ audience }) => audience), [['a', 'b'], ['a']], 'WLAPI-21 the audience is passed on')
  await t.rejects(fetch([]), invalid, 'WLAPI-11, WLAPI-21 audience is mandatory')
  await t.rejects(fetch(['a'], 'spiffe://own.test/a/../b'), { status: 'INVALID_ARGUMENT', code: 'spiffe_id_malformed' }, 'a malformed ID')
  await t.rejects(fetch(['a'], 'spiffe://own.test/somebody-else'), denied, 'WLAPI-24 not an identity of the caller')
  const asked = identities.jwtRequests.length
  for (const [title, audience] of Object.entries({
    'an empty value': ['a', ''],
    'far too many values': Array.from({ length: 10_000 }, (_, i) => `a${i}`),
    'one of a megabyte': ['a'.repeat(1_000_000)]
  })) await t.rejects(fetch(audience), { status: 'INVALID_ARGUMENT', code: 'argument_invalid' }, title)
  t.equal(identities.jwtRequests.length, asked, 'nothing is signed for refused audiences')
  identities.jwtSvids = [jwtSvid(web.id, 'same'), jwtSvid(admin.id, 'same')]
  t.same((await fetch(['a'])).svids.map(svid => svid.spiffeId), [web.id], 'WLAPI-36 hints are unique')
  identities.jwtSvids = []
  await t.rejects(fetch(['a']), denied, 'WLAPI-24 no identity')
})

await t.test('ValidateJWTSVID', async t => {
  const { identities, client } = await serve(t, { allowedForeignJwtClaims: ['team'] })
  identities.set(mine, identityOf(own.bundle, [web], [foreign.bundle]))
  const sign = (from: TestTrustDomain, claims: Record<string, unknown>, signer = from) =>
    new SignJWT({ aud: 'me', exp: Math.floor(Date.now() / 1000) + 60, ...claims })
      .setProtectedHeader({ alg: 'ES256', kid: signer.jwtKey.keyId, typ: 'JWT' }).sign(signer.jwtKey.privateKey)
  const validate = (svid: string, audience = 'me') => client.validateJWTSVID({ audience, svid }, { metadata: header })
  const claimsOf = async (svid: string) => plainFields((await validate(svid)).claims?.fields ?? {})

  const token = await sign(own, { sub: web.id, team: 'blue', level: 3, nested: { deep: [true, null, 'x'] }, aud: ['me', 'you'] })
  t.equal((await validate(token)).spiffeId, web.id, 'WLAPI-29 the ID')
  t.match(await claimsOf(token), { sub: web.id, aud: ['me', 'you'], team: 'blue', level: 3, nested: { deep: [true, null, 'x'] } },
    'WLAPI-29 all claims of the own domain')
  const guest = await sign(foreign, { sub: 'spiffe://foreign.test/guest', team: 'red', level: 9 })
  const shown = await claimsOf(guest)
  t.same(Object.keys(shown).toSorted(), ['aud', 'exp', 'sub', 'team'], 'WLAPI-29, ID-21 of a foreign token only what is allowed')
  t.same(shown['aud'], ['me'], 'aud is always a list')

  const refused: Record<string, [svid: string, audience?: string]> = {
    'WLAPI-11, WLAPI-28 audience is mandatory': [token, ''],
    'WLAPI-11, WLAPI-28 svid is mandatory': [''],
    'WLAPI-28 another audience': [token, 'somebody'],
    'WLAPI-28 expired': [await sign(own, { sub: web.id, exp: Math.floor(Date.now() / 1000) - 600 })],
    'WLAPI-28 signed by nobody we know': [`${token.slice(0, -8)}AAAAAAAA`],
    'WLAPI-28, WLAPI-31 signed by another domain\'s key': [await sign(own, { sub: web.id }, foreign)],
    'WLAPI-28, WLAPI-31 of a domain without a bundle': [await sign(own, { sub: 'spiffe://unknown.test/x' })],
    'WLAPI-28 not a token': ['garbage']
  }
  for (const [title, [svid, audience]] of Object.entries(refused)) {
    await t.rejects(validate(svid, audience), invalid, `${title} (AMB-10)`)
  }
})

await t.test('claims as a protobuf Struct', async t => {
  const deep = (levels: number): Record<string, unknown> => levels === 0 ? {} : { in: deep(levels - 1) }
  t.doesNotThrow(() => encodeStruct(deep(32)))
  t.throws(() => encodeStruct(deep(33)), { code: 'jwt_svid_invalid' })
  t.throws(() => encodeStruct({ list: JSON.parse(`${'['.repeat(100)}${']'.repeat(100)}`) }), { code: 'jwt_svid_invalid' })
  t.same(visibleClaims({ sub: 's', ['__proto__']: 1, aud: 'a' }, own.name, own.name, new Set()), { sub: 's', ['__proto__']: 1, aud: ['a'] })
})

function plain (value: Value): unknown {
  if (value.listValue !== undefined) return value.listValue.values.map(plain)
  if (value.structValue !== undefined) return plainFields(value.structValue.fields)
  return value.stringValue ?? value.numberValue ?? value.boolValue ?? null
}

function plainFields (fields: Readonly<Record<string, Value>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, plain(value)]))
}
