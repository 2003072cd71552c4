import t from 'tap'
import { systemClock } from '../../src/runtime/clock.ts'
import { noEnvoy, until } from '../fakes/envoy.ts'
import { Mesh, portOf, startLoad, startWorkload, type Api } from './mesh.ts'

const skip = noEnvoy()
const web = 'spiffe://example.org/web'
const backend = 'spiffe://example.org/backend'
const seconds = Number(process.env['SOAK_SECONDS'] ?? 150)
const apis: readonly Api[] = ['DELTA_GRPC', 'GRPC']

for (const api of apis) {
  await t.test(`CAs, certificates and agents come and go for ${seconds} s under load, ${api}`, { skip, timeout: 600_000 }, async t => {
    await using scope = new AsyncDisposableStack()
    const mesh = scope.use(await Mesh.open({ ca_ttl: '60s', agent_ttl: '30s', default_x509_svid_ttl: '15s' }))
    const workload = scope.use(await startWorkload())
    await mesh.startAgent()
    await mesh.register(backend, { ttlSeconds: 15 })
    await mesh.register(web, { ttlSeconds: 15 })
    await mesh.register('spiffe://example.org/batch', { ttlSeconds: 15 })
    await until('the agent to have both', async () => await mesh.svidOf(web) !== undefined && await mesh.svidOf(backend) !== undefined)
    const server = await mesh.startEnvoy('server-node.yaml', api, { backend: { host: '127.0.0.1', port: workload.port } })
    const mtls = { host: '127.0.0.1', port: await portOf(server, 'mtls') }
    const client = await mesh.startEnvoy('client-node.yaml', api, { 'backend-as-web': mtls, 'backend-as-batch': mtls })
    const port = await portOf(client, 'web')
    await client.ready()

    const load = startLoad(port)
    const end = Date.now() + seconds * 1_000
    let kills = 0
    while (Date.now() < end) {
      // Anywhere within two rotations.
      await systemClock.sleep(2_000 + Math.random() * 8_000)
      await mesh.agent.kill9()
      kills++
      await mesh.startAgent()
    }
    const { failures, requests } = await load.stop()
    t.strictSame(failures, [], `none of ${requests} requests failed, ${load.certificates.size} certificates, ${kills} kills of the agent`)
    t.ok(load.certificates.size > seconds / 10, 'certificates kept rotating')
    const activated = mesh.server.process.lines().filter(line => line['msg'] === 'x509 authority activated').length
    t.ok(activated >= Math.floor(seconds / 60), `${activated} CAs were active in turn`)
    t.ok(server.running && client.running)
  })
}
