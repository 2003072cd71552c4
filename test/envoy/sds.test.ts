import { connect } from 'node:http2'
import t from 'tap'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { encodePem } from '../../src/x509/pem.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { noEnvoy, get, until, type Envoy } from '../fakes/envoy.ts'
import { createNamesake, forge, mint, pemOf, type Identity } from '../fakes/forge.ts'
import { sameSerial } from '../fakes/serial.ts'
import { Administrator } from '../interop/administrator.ts'
import { certificateSeen, Mesh, portOf, serialsHeld, startLoad, startWorkload, type Api } from './mesh.ts'

const skip = noEnvoy()
const web = 'spiffe://example.org/web'
const batch = 'spiffe://example.org/batch'
const backend = 'spiffe://example.org/backend'
const apis: readonly Api[] = ['DELTA_GRPC', 'GRPC']

for (const api of apis) {
  await t.test(`Envoys of envoy-configs/ with real server and agent, ${api}`, { skip, timeout: 180_000 }, async t => {
    await using scope = new AsyncDisposableStack()
    const mesh = scope.use(await Mesh.open())
    const workload = scope.use(await startWorkload())
    const place = (port: number) => ({ host: '127.0.0.1', port })

    const server = await mesh.startEnvoy('server-node.yaml', api, { backend: place(workload.port) })
    const down = 'cluster.agent.upstream_cx_connect_fail'
    await until('Envoy to find no agent', async () => Number((await server.stats(down)).get(down)) > 0)
    t.notOk(await server.isReady(), 'start-up with the agent down: Envoy waits')
    await mesh.startAgent()
    if (api === 'DELTA_GRPC') {
      await server.ready()
      t.strictSame(await serialsHeld(server, backend), [], 'no entry yet: "removed" is an answer, Envoy is live without a certificate')
    } else {
      const asked = 'cluster.agent.upstream_rq_total'
      await until('a few refusals', async () => Number((await server.stats(asked)).get(asked)) > 4)
      t.notOk(await server.isReady(), 'no entry yet: the agent refuses, Envoy waits on')
    }
    await mesh.register(backend, { ttlSeconds: 600 })
    await until('the first secret', async () => (await serialsHeld(server, backend)).length === 1)
    await server.ready()
    t.pass('the agent comes up: first secret, and Envoy is live')

    const mtls = place(await portOf(server, 'mtls'))
    await mesh.register(web, { ttlSeconds: 600 })
    await mesh.register(batch, { ttlSeconds: 600 })
    await until('the agent to have both', async () => await mesh.svidOf(web) !== undefined && await mesh.svidOf(batch) !== undefined)
    const client = await mesh.startEnvoy('client-node.yaml', api, { 'backend-as-web': mtls, 'backend-as-batch': mtls })
    await client.ready()
    const port = await portOf(client, 'web')

    await t.test('who is who', async t => {
      const { status, body } = await get(port)
      t.equal(status, 200)
      t.match(body, /^By=spiffe:\/\/example\.org\/backend;Hash=[\da-f]{64};URI=spiffe:\/\/example\.org\/web$/, 'each side knows the other')
      t.match(await get(await portOf(client, 'batch')), { status: 403, body: 'RBAC: access denied' })
    })

    await t.test('rotation under load', async t => {
      const before = await serialsHeld(server, backend)
      const load = startLoad(port)
      // Renewed when half of it is over: a machine may stand still for the other half.
      await mesh.register(web, { ttlSeconds: 20 })
      await mesh.register(backend, { ttlSeconds: 20 })
      await until('three more certificates of the caller', () => load.certificates.size >= 4)
      const { failures, requests } = await load.stop()
      t.strictSame(failures, [], `none of ${requests} requests failed`)
      t.ok(requests > 100)
      t.notSame(await serialsHeld(server, backend), before, 'the server\'s certificate rotated too')
    })

    await t.test('the agent is killed and comes back', async t => {
      // To outlast the restart of an agent on a busy machine: what the Envoys, not only the agent, hold now must carry until then.
      for (const [id, envoy] of [[web, client], [backend, server]] as const) {
        await mesh.register(id, { ttlSeconds: 600 })
        await until('the certificate that lasts', async () => {
          const held = await mesh.svidOf(id)
          if (held === undefined || held.validTo.getTime() < Date.now() + 300_000) return false
          return (await serialsHeld(envoy, id)).some(serial => sameSerial(serial, held.serial))
        })
      }
      const last = (await mesh.svidOf(web))?.sha256 ?? 'none'
      const load = startLoad(port)
      await until('calls with it', () => load.certificates.has(last))
      await mesh.agent.kill9()
      const before = load.certificates.size
      await mesh.startAgent()
      for (const [ttlSeconds, more] of [[500, 1], [400, 2]] as const) {
        await mesh.register(web, { ttlSeconds })
        await until('a certificate from the agent that came back', () => load.certificates.size >= before + more)
      }
      const { failures, requests } = await load.stop()
      t.strictSame(failures, [], `none of ${requests} requests failed`)
    })

    await t.test('the entry of a certificate is removed and restored', async t => {
      const removals = () => mesh.acknowledged('client-node', web, 'removal')
      const before = removals()
      await mesh.register(web, { ttlSeconds: 600 })
      await until('a certificate that lives for long to be used', async () => {
        const held = await mesh.svidOf(web)
        return held !== undefined && held.validTo > new Date(Date.now() + 450_000) && await certificateSeen(port) === held.sha256
      })
      const last = await certificateSeen(port)
      await mesh.unregister(web)
      await until('the agent to drop it', async () => await mesh.svidOf(web) === undefined)
      if (api === 'DELTA_GRPC') await until('Envoy to acknowledge removed_resources', () => removals() > before)
      const connections = await connectionsOf(client)
      await until('a new connection', async () => {
        if (await certificateSeen(port) === undefined) throw new Error('a request failed')
        return await connectionsOf(client) > connections
      })
      t.equal(await certificateSeen(port), last, 'classic SDS keeps the last good secret, also for new connections (envoy-lab finding 7)')
      await mesh.register(web, { ttlSeconds: 600 })
      await until('the restored identity\'s certificate to be used', async () => ![undefined, last].includes(await certificateSeen(port)))
    })

    await t.test('a bundle comes, goes and comes back; its CA has the name of ours', async t => {
      await using admin = new Administrator(mesh.server)
      const { x509Authorities: [ownRoot] } = await admin.bundles.getBundle({})
      const ownCa = parseCertificate(ownRoot?.asn1 ?? new Uint8Array())
      const partner = await createNamesake('partner.test', ownCa, { country: ['US'], organization: ['SPIFFE'] })
      t.same(Buffer.from(partner.certificate.subjectDer), Buffer.from(ownCa.subjectDer), 'the partner\'s CA has the name of ours')
      const guest = await partner.issue('/guest')
      const impostor = await (await createTestAuthority('example.org')).issue('/web')
      const forged = await forge(web, partner, ownCa)
      t.equal(await callAs(await mint(admin, web), mtls.port), 200, 'a caller of our own that may call')
      t.equal(await callAs(guest, mtls.port), 'refused', 'a stranger\'s certificate')
      await mesh.setPartner(partner.bundle)
      await mesh.register(backend, { ttlSeconds: 600, federatesWith: ['partner.test'] })
      await until('the partner\'s bundle to be used', async () => await callAs(guest, mtls.port) === 403)
      t.equal(await callAs(impostor, mtls.port), 'refused', 'another CA for our own trust domain')
      for (const [how, identity] of Object.entries(forged)) {
        t.equal(await callAs(identity, mtls.port), 'refused', `X509-21 TDB-04 our ID signed by the partner's CA, ${how}`)
      }
      await mesh.register(backend, { ttlSeconds: 600 })
      await until('the partner to be a stranger again', async () => await callAs(guest, mtls.port) === 'refused')
      t.equal((await get(port)).status, 200, 'own workloads go on')
      await mesh.register(backend, { ttlSeconds: 600, federatesWith: ['partner.test'] })
      await until('the restored bundle to be used', async () => await callAs(guest, mtls.port) === 403)
      t.equal((await get(port)).status, 200, 'own workloads go on, still')
    })
    t.ok(server.running && client.running)
  })
}

async function connectionsOf (client: Envoy): Promise<number> {
  const name = 'cluster.backend-as-web.upstream_cx_total'
  return Number((await client.stats(name)).get(name))
}

/** @returns the status of an answer; `refused` when there is none, because TLS refused the certificate */
async function callAs (svid: Identity, port: number): Promise<number | 'refused'> {
  const session = connect(`https://127.0.0.1:${port}`, {
    cert: pemOf(svid),
    key: encodePem('PRIVATE KEY', svid.privateKey),
    // Not the server is on trial here.
    rejectUnauthorized: false
  })
  try {
    return await new Promise(resolve => {
      const refused = () => resolve('refused')
      session.on('error', refused)
      session.request({ ':path': '/' }).on('response', headers => resolve(headers[':status'] ?? 'refused'))
        .on('error', refused).on('close', refused)
    })
  } finally {
    session.destroy()
  }
}
