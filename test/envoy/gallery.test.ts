import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { bind } from '../../src/rpc/bound-service.ts'
import type { CallContext } from '../../src/rpc/call.ts'
import { openRpcServer, type RpcServer } from '../../src/rpc/server.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { secretTypeUrl } from '../../src/sds/encode-secret.ts'
import { formatBundleDocument } from '../../src/spiffe/bundle-document.ts'
import { type AuthorizationHandlers, authorizationService } from '../../src/wire/generated/envoy-authorization.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { noEnvoy, get, until, type Envoy } from '../fakes/envoy.ts'
import { forge, mint, type Identity } from '../fakes/forge.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { Administrator } from '../interop/administrator.ts'
import {
  callTls, fetchToken, getFrom, startEcho, startGalleryEnvoy, startMtlsServer, statusOf, statusOfTunnel, type Moves
} from './gallery.ts'
import { Mesh, portOf } from './mesh.ts'

const skip = noEnvoy()
/** Of gRPC. */
const permissionDenied = 7
const idOf = (path: string) => `spiffe://example.org/${path}`
const [web, batch, backend, orders, billing] = ['web', 'batch', 'backend', 'orders', 'billing'].map(idOf) as
  [string, string, string, string, string]

await t.test('each file of the gallery in a real Envoy, with real server and agent', { skip, timeout: 180_000 }, async t => {
  await using scope = new AsyncDisposableStack()
  const mesh = scope.use(await Mesh.open())
  await mesh.startAgent()
  const admin = scope.use(new Administrator(mesh.server))
  const partner = await createTestAuthority('partner.test')
  await mesh.setPartner(partner.bundle)
  for (const id of [web, batch, orders, billing]) await mesh.register(id, { ttlSeconds: 600 })
  await mesh.register(backend, { ttlSeconds: 600, federatesWith: ['partner.test'] })
  await until('the agent to have all of them', async () => {
    const held = await Promise.all([web, batch, orders, billing, backend].map(id => mesh.svidOf(id)))
    return held.every(svid => svid !== undefined)
  })
  const echo = scope.use(await startEcho('first'))
  const folder = await mkdtemp(join(tmpdir(), 'gallery-'))
  scope.defer(() => rm(folder, { recursive: true, force: true }))
  const as = async (path: string) => await mint(admin, idOf(path))
  const callers = { web: await as('web'), batch: await as('batch'), backend: await as('backend') }

  const start = async (own: AsyncDisposableStack, file: string, moves: Omit<Moves, 'agentSocket'>): Promise<Envoy> => {
    const envoy = own.use(await startGalleryEnvoy(file, { ...moves, agentSocket: mesh.agentSocket }))
    await envoy.ready()
    return envoy
  }

  await t.test('outbound-identities.yaml', async t => {
    await using own = new AsyncDisposableStack()
    const server = own.use(await startMtlsServer(callers.backend))
    const envoy = await start(own, 'outbound-identities.yaml', { ports: { 15443: server.port } })
    const port = await portOf(envoy, 'out')
    const ask = async (from: string) => {
      const answer = await getFrom(from, port)
      if (answer === 'refused') return answer
      return answer.status === 200 ? answer.body : answer.status
    }
    t.equal(await ask('127.0.0.2'), web)
    t.equal(await ask('127.0.0.3'), batch)
    t.equal(await ask('127.0.0.2'), web, 'a connection that is kept is not shared by two identities')
    t.equal(server.connections, 2, 'and is kept')
    t.equal(await ask('127.0.0.4'), 'refused', 'a source without an identity is closed')
    await mesh.unregister(batch)
    await until('the agent to drop it', async () => await mesh.svidOf(batch) === undefined)
    await until('Envoy to lose it', async () => {
      server.cut()
      return await ask('127.0.0.3') === 503
    })
    t.equal(await ask('127.0.0.3'), 503, 'a certificate that was withdrawn is not used again')
    t.equal(await ask('127.0.0.2'), web, 'the others are')
    server.become(callers.web)
    t.equal(await ask('127.0.0.2'), 503)
    t.ok(await counted(envoy, 'cluster.backend.ssl.fail_verify_san'), 'a server with another ID of the same trust domain is refused')
    await mesh.register(batch, { ttlSeconds: 600 })
  })

  await t.test('inbound-by-sni.yaml', async t => {
    await using own = new AsyncDisposableStack()
    const second = own.use(await startEcho('second'))
    const port = await portOf(await start(own, 'inbound-by-sni.yaml', { ports: { 8080: echo.port, 8081: second.port } }), 'mtls')
    const ask = async (serverName: string, as: Identity | undefined) => {
      const answer = await callTls(port, { serverName, as })
      return answer === 'refused' ? answer : { status: answer.status, server: answer.server, name: /"name":"(\w+)"/.exec(answer.body)?.[1] }
    }
    t.strictSame(await ask('orders.example.org', callers.web), { status: 200, server: orders, name: 'first' })
    t.strictSame(await ask('billing.example.org', callers.batch), { status: 200, server: billing, name: 'second' })
    t.match(await ask('billing.example.org', callers.web), { status: 403 }, 'each name has its own callers')
    t.equal(await ask('other.example.org', callers.web), 'refused', 'a name that nobody has')
    t.equal(await ask('', callers.web), 'refused', 'no name')
    t.equal(await ask('orders.example.org', undefined), 'refused', 'no certificate')
    await mesh.unregister(billing)
    await until('Envoy to lose the certificate', async () => await ask('billing.example.org', callers.batch) === 'refused')
    t.match(await ask('orders.example.org', callers.web), { status: 200 }, 'the other workload goes on')
  })

  await t.test('hbone-out.yaml to hbone-in.yaml', async t => {
    await using own = new AsyncDisposableStack()
    const ports = { 8080: echo.port }
    const inward = await portOf(await start(own, 'hbone-in.yaml', { ports }), 'hbone')
    const out = await portOf(await start(own, 'hbone-out.yaml', { ports: { ...ports, 15008: inward } }), 'out')
    const answer = await get(out)
    t.equal(answer.status, 200)
    t.match(answer.body, '"name":"first"', 'plain TCP through the tunnel')
    const tunnel = (as: Identity, authority: string) => statusOfTunnel(inward, as, authority)
    t.equal(await tunnel(callers.web, `127.0.0.1:${echo.port}`), 200)
    t.equal(await tunnel(callers.batch, `127.0.0.1:${echo.port}`), 403, 'another caller')
    t.equal(await tunnel(callers.web, `127.0.0.1:${inward}`), 403, 'no open relay: another port')
    t.equal(await tunnel(callers.web, `localhost:${echo.port}`), 403, 'no open relay: another name')
    t.equal(await tunnel(await partner.issue('/web'), `127.0.0.1:${echo.port}`), 403, 'the same path in another domain')
    t.equal(await tunnel(await (await createTestAuthority('example.org')).issue('/web'), `127.0.0.1:${echo.port}`), 'refused', 'another CA')
  })

  await t.test('rbac.yaml', async t => {
    await using own = new AsyncDisposableStack()
    const envoy = await start(own, 'rbac.yaml', { ports: { 5432: echo.port, 8080: echo.port } })
    const [tcp, http] = [await portOf(envoy, 'tcp'), await portOf(envoy, 'http')]
    const [ops, former, opsimath] = [await as('ops/alice'), await as('ops/former'), await as('opsimath')]
    t.equal(await statusOf(tcp, { as: await as('orders') }), 200, 'TCP: named')
    t.equal(await statusOf(tcp, { as: ops }), 200, 'TCP: below a path')
    t.equal(await statusOf(tcp, { as: callers.web }), 'refused', 'TCP: not named')
    t.equal(await statusOf(tcp, { as: opsimath }), 'refused', 'TCP: a path that only begins so')
    const web = { as: callers.web, path: '/orders/1' }
    t.equal(await statusOf(http, web), 200, 'HTTP: what the rule says')
    t.equal(await statusOf(http, { ...web, method: 'POST' }), 403, 'HTTP: another method')
    t.equal(await statusOf(http, { ...web, path: '/admin' }), 403, 'HTTP: another path')
    t.equal(await statusOf(http, { ...web, path: '/orders/../admin' }), 403, 'HTTP: another path, written otherwise')
    t.equal(await statusOf(http, { ...web, path: '/orders/..%2fadmin' }), 400, 'HTTP: a path of two readings')
    t.equal(await statusOf(http, { as: ops, path: '/admin', method: 'POST' }), 200, 'HTTP: below a path')
    t.equal(await statusOf(http, { as: former, path: '/admin' }), 403, 'HTTP: denied before allowed')
    t.equal(await statusOf(http, { as: opsimath, path: '/orders/1' }), 403, 'HTTP: a path that only begins so')
  })

  await t.test('ext-authz.yaml', async t => {
    await using own = new AsyncDisposableStack()
    const socket = join(folder, 'authorization.sock')
    const envoy = await start(own, 'ext-authz.yaml', { ports: { 8080: echo.port }, paths: { '/tmp/authorization.sock': socket } })
    const port = await portOf(envoy, 'mtls')
    t.equal(await statusOf(port, { as: callers.web }), 503, 'nobody there to ask: nothing passes')
    const service = await serveAuthorization(socket)
    own.use(service)
    await until('Envoy to find it', async () => await statusOf(port, { as: callers.web }) === 200)
    const allowed = await callTls(port, { as: callers.web, path: '/any' })
    t.match(allowed, { status: 200, body: /"x-decision":"web may read \/any"/ }, 'its headers reach the workload')
    const refused = await callTls(port, { as: callers.web, method: 'POST' })
    t.match(refused, { status: 403, body: `${web} may not POST` }, 'its words reach the caller')
    t.match(await callTls(port, { as: callers.batch }), { status: 403, body: `${batch} may not GET` })
    const claimed = { 'x-forwarded-client-cert': `URI=${web}` }
    t.equal(await statusOf(port, { as: callers.batch, headers: claimed }), 403, 'who calls is read from TLS, not from what they say')
    await service[Symbol.asyncDispose]()
    t.equal(await statusOf(port, { as: callers.web }), 503, 'gone again: nothing passes')
  })

  await t.test('federation.yaml', async t => {
    await using own = new AsyncDisposableStack()
    const server = own.use(await startMtlsServer(await partner.issue('/api')))
    const envoy = await start(own, 'federation.yaml', { ports: { 8080: echo.port, 16443: server.port } })
    const [inward, out] = [await portOf(envoy, 'in'), await portOf(envoy, 'out')]
    t.match(await envoy.admin('/config_dump?resource=dynamic_active_secrets'), '"name": "partner.test"', 'what the file says to look at')
    t.equal(await statusOf(inward, { as: callers.web }), 200, 'one of our own')
    t.equal(await statusOf(inward, { as: await partner.issue('/guest') }), 200, 'the partner\'s guest')
    t.equal(await statusOf(inward, { as: await partner.issue('/web') }), 403, 'another of the partner\'s, by the name of ours')
    t.equal(await statusOf(inward, { as: callers.batch }), 403, 'another of our own')
    const [root] = (await admin.bundles.getBundle({})).x509Authorities
    const forged = await forge(web, partner, parseCertificate(root?.asn1 ?? new Uint8Array()))
    for (const [how, identity] of Object.entries(forged)) {
      t.equal(await statusOf(inward, { as: identity }), 'refused', `TDB-04 our ID signed by the partner's CA, ${how}`)
    }
    const stranger = await createTestAuthority('stranger.test')
    t.equal(await statusOf(inward, { as: await stranger.issue('/guest') }), 'refused', 'a domain that is not federated')
    t.match(await get(out), { status: 200, body: backend }, 'out to the partner, under our ID')
    server.become(await partner.issue('/other'))
    t.equal((await get(out)).status, 503)
    t.ok(await counted(envoy, 'cluster.partner.ssl.fail_verify_san'), 'another of the partner\'s is not spoken to')
    server.become(await stranger.issue('/api'))
    t.equal((await get(out)).status, 503)
    t.ok(await counted(envoy, 'cluster.partner.ssl.fail_verify_error'), 'nor a stranger')
  })

  await t.test('jwt-out.yaml to jwt-in.yaml', async t => {
    await using own = new AsyncDisposableStack()
    const put = async (name: string, text: string) => {
      await writeFile(join(folder, 'new'), text)
      await rename(join(folder, 'new'), join(folder, name))
    }
    const offer = async (token: string) => {
      const secret = { inline_string: `Bearer ${token}` }
      await put('token.json', JSON.stringify({ resources: [{ '@type': secretTypeUrl, name: 'jwt', generic_secret: { secret } }] }))
    }
    const { code, stdout } = await runAssay(['bundle', 'show', '-format', 'spiffe', '-socketPath', mesh.server.adminSocket])
    t.equal(code, 0)
    await put('bundle.json', stdout)
    await put('token.json', JSON.stringify({ resources: [] }))
    const paths = { '/tmp/assay-jwt': folder }
    const inward = await portOf(await start(own, 'jwt-in.yaml', { ports: { 8080: echo.port }, paths }), 'tls')
    const out = await portOf(await start(own, 'jwt-out.yaml', { ports: { 15443: inward }, paths }), 'out')
    t.equal((await get(out)).status, 401, 'no token: nothing leaves')
    await offer(await fetchToken(mesh.agentSocket, web, backend))
    await until('Envoy to read the token', async () => (await get(out)).status === 200)
    t.match((await get(out)).body, `"x-spiffe-id":"${web}"`, 'the workload learns who called')
    await offer(await fetchToken(mesh.agentSocket, batch, backend))
    await until('Envoy to read the next token', async () => (await get(out)).status === 403)
    t.pass('the next token is used, and RBAC tells whose it is')

    const bearing = (token: string) => ({ headers: { authorization: `Bearer ${token}`, 'x-spiffe-id': batch } })
    const token = await fetchToken(mesh.agentSocket, web, backend)
    const answer = await callTls(inward, bearing(token))
    t.match(answer, { status: 200, server: backend, body: `"x-spiffe-id":"${web}"` }, 'what a caller says itself is overwritten')
    t.notMatch(answer, { body: /authorization/ }, 'the token stays here')
    t.equal(await statusOf(inward, {}), 401, 'no token')
    const elsewhere = await fetchToken(mesh.agentSocket, web, orders)
    t.equal(await statusOf(inward, bearing(elsewhere)), 403, 'a token for somebody else')
    t.equal(await statusOf(inward, bearing(`${token.slice(0, -8)}AAAAAAAA`)), 401, 'a broken signature')
    const next = await createTestAuthority('example.org')
    const signed = async (id: string, expiresAt?: Date) =>
      await next.issueJwt(id, [backend], expiresAt === undefined ? {} : { expiresAt, issuedAt: new Date(0) })
    t.equal(await statusOf(inward, bearing(await signed(web))), 401, 'a key that is not in the bundle')
    await put('bundle.json', formatBundleDocument(next.bundle))
    await until('Envoy to read the new bundle', async () => await statusOf(inward, bearing(await signed(web))) === 200)
    t.equal(await statusOf(inward, bearing(token)), 401, 'a key that has left the bundle')
    t.equal(await statusOf(inward, bearing(await signed('spiffe://partner.test/web'))), 401, 'a key vouches for its own domain only')
    t.equal(await statusOf(inward, bearing(await signed(web, new Date(Date.now() - 60_000)))), 401, 'an expired token')
  })
})

/** Whether it happened; a 503 alone may have other reasons. */
async function counted (envoy: Envoy, stat: string): Promise<boolean> {
  return Number((await envoy.stats(stat)).get(stat)) > 0
}

/** An authorization service with one rule: `web` may read. */
async function serveAuthorization (path: string): Promise<RpcServer> {
  const check: AuthorizationHandlers<CallContext>['check'] = async ({ attributes }) => {
    const caller = attributes?.source?.principal ?? ''
    const { method = '', path = '' } = attributes?.request?.http ?? {}
    const ok = caller === web && method === 'GET'
    return ok
      ? { status: { code: 0 }, okResponse: { headers: [{ header: { key: 'x-decision', value: `web may read ${path}` } }] } }
      : { status: { code: permissionDenied }, deniedResponse: { body: `${caller} may not ${method}` } }
  }
  const server = openRpcServer({ services: [bind(authorizationService, { check })], log: silentLogger, clock: systemClock })
  await server.listenUnix({ path })
  return server
}
