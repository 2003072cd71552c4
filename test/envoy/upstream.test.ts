import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { localAuthorityService } from '../../src/wire/generated/server-local-authority.ts'
import { createTestCa, writeCaFiles } from '../fakes/ca-files.ts'
import { noEnvoy, get, until } from '../fakes/envoy.ts'
import { Mesh, portOf, serialsHeld, startLoad, startWorkload } from './mesh.ts'

const skip = noEnvoy()
const web = 'spiffe://example.org/web'
const backend = 'spiffe://example.org/backend'

await t.test('Envoys below a CA in files, while its root is replaced, tainted and revoked', { skip, timeout: 180_000 }, async t => {
  await using scope = new AsyncDisposableStack()
  const folder = await mkdtemp(join(tmpdir(), 'assay-upstream-'))
  scope.defer(() => rm(folder, { recursive: true, force: true }))
  const [first, second] = [await createTestCa(), await createTestCa()]
  const issuer = await createTestCa({ issuer: first })
  const plugin_data = await writeCaFiles(folder, [issuer], [first])
  const mesh = scope.use(await Mesh.open({}, { plugins: { UpstreamAuthority: { disk: { plugin_data } } } }))
  const workload = scope.use(await startWorkload())
  await mesh.startAgent()
  for (const id of [web, backend, 'spiffe://example.org/batch']) await mesh.register(id, { ttlSeconds: 600 })
  await until('the agent to have them', async () => await mesh.svidOf(web) !== undefined && await mesh.svidOf(backend) !== undefined)
  const server = await mesh.startEnvoy('server-node.yaml', 'DELTA_GRPC', { backend: { host: '127.0.0.1', port: workload.port } })
  await server.ready()
  const mtls = { host: '127.0.0.1', port: await portOf(server, 'mtls') }
  const client = await mesh.startEnvoy('client-node.yaml', 'DELTA_GRPC', { 'backend-as-web': mtls, 'backend-as-batch': mtls })
  await client.ready()
  const port = await portOf(client, 'web')
  const { status, body } = await get(port)
  t.equal(status, 200)
  t.match(body, /^By=spiffe:\/\/example\.org\/backend;Hash=[\da-f]{64};URI=spiffe:\/\/example\.org\/web$/, 'by the upstream\'s root')

  const load = startLoad(port)
  await until('calls under the first root', () => load.certificates.size > 0)
  const before = await serialsHeld(server, backend)
  await using admin = openUnixChannel(mesh.server.adminSocket)
  const authorities = admin.client(localAuthorityService)
  await writeCaFiles(folder, [second], [second])
  const { preparedAuthority } = await authorities.prepareX509Authority({})
  await authorities.activateX509Authority({ authorityId: preparedAuthority?.authorityId ?? '' })
  await authorities.taintX509UpstreamAuthority({ subjectKeyId: first.subjectKeyId })
  await until('both sides to have SVIDs below the new root', async () =>
    (await serialsHeld(server, backend)).every(serial => !before.includes(serial)) && load.certificates.size >= 2)
  await authorities.revokeX509UpstreamAuthority({ subjectKeyId: first.subjectKeyId })
  for (let n = 0; n < 50; n++) t.equal((await get(port)).status, 200)
  const { failures, requests } = await load.stop()
  t.strictSame(failures, [], `none of ${requests} requests failed`)
})
