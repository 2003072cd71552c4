import { mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { parse } from 'yaml'
import { Envoy, findEnvoy, get, until } from '../fakes/envoy.ts'
import { startAgent, startServer } from '../fakes/processes.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { Workload } from '../faults/workload.ts'
import { Administrator } from '../interop/administrator.ts'
import { folderOfConfigs, portOf, startPlacedEnvoy, startWorkload } from './mesh.ts'

const skip = findEnvoy() === undefined ? 'there is no Envoy here; `npm test` brings one' : false
const backend = 'spiffe://example.org/ns/default/sa/backend'
const nowhere = { host: '127.0.0.1', port: 1 }

/** An agent that listens where Istio's proxies look for a SPIFFE provider; the machine's root is a folder of the test's own. */
async function setUp (t: Test) {
  const scope = new AsyncDisposableStack()
  t.teardown(() => scope.disposeAsync())
  const root = await mkdtemp(join(tmpdir(), 'istio-'))
  scope.defer(() => rm(root, { recursive: true, force: true }))
  const socket = join(root, 'var/run/secrets/workload-spiffe-uds/socket')
  const server = scope.use(await startServer())
  const agent = scope.use(await startAgent({ server, config: { socket_path: socket } }))
  const admin = scope.use(new Administrator(server))
  const entry = await admin.register(backend, agent.id)
  const here = scope.use(new Workload(socket))
  await here.granted(backend)
  const workload = scope.use(await startWorkload())
  return { scope, root, socket, agent, admin, entry, here, workload: { host: '127.0.0.1', port: workload.port } }
}

await t.test('Istio\'s names at Istio\'s socket', { skip, timeout: 120_000 }, async t => {
  const { scope, socket, agent, admin, entry, workload, here } = await setUp(t)
  const yaml = await readFile(join(folderOfConfigs, 'istio.yaml'), 'utf8')
  t.match(yaml, 'pipe: {path: /var/run/secrets/workload-spiffe-uds/socket}', 'the file names the socket that Istio looks for')
  const inward = scope.use(await startPlacedEnvoy('istio.yaml', 'GRPC', socket, { workload, peer: nowhere }))
  await inward.ready()
  const peer = { host: '127.0.0.1', port: await portOf(inward, 'in') }
  const outward = scope.use(await startPlacedEnvoy('istio.yaml', 'GRPC', socket, { workload: nowhere, peer }))
  await outward.ready()
  const port = await portOf(outward, 'out')
  const { status, body } = await get(port)
  t.equal(status, 200, 'mTLS in both directions')
  t.match(body, `URI=${backend}`, 'under the ID that Istio gives a service account')

  const secrets = JSON.parse(await outward.admin('/config_dump?resource=dynamic_active_secrets')) as { configs: { name: string }[] }
  t.same(secrets.configs.map(({ name }) => name).toSorted((a, b) => a < b ? -1 : 1), ['ROOTCA', 'default'], 'no other secret is needed')

  await admin.register('spiffe://example.org/ns/default/sa/other', agent.id)
  await here.granted('spiffe://example.org/ns/default/sa/other')
  await admin.unregister(entry)
  await until('the first identity to go', async () => !(await here.fetch()).svids.some(({ spiffeId }) => spiffeId === backend))
  const third = scope.use(await startPlacedEnvoy('istio.yaml', 'GRPC', socket, { workload, peer: nowhere }))
  const wrong = { host: '127.0.0.1', port: await portOf(third, 'in') }
  const caller = scope.use(await startPlacedEnvoy('istio.yaml', 'GRPC', socket, { workload: nowhere, peer: wrong }))
  await caller.ready()
  t.equal((await get(await portOf(caller, 'out'))).status, 503, 'a server of another service account is refused')
})

await t.test('Istio\'s files', { skip, timeout: 120_000 }, async t => {
  const { scope, root, socket, workload } = await setUp(t)
  // As docs/istio.md has it.
  const folder = join(root, 'var/run/secrets/workload-spiffe-credentials')
  const fresh = join(folder, 'fresh')
  await mkdir(folder, { recursive: true })
  const { code } = await runAssay(['api', 'fetch', 'x509', '-socketPath', socket, '-write', fresh, '-silent'])
  t.equal(code, 0)
  const names = { 'svid.0.pem': 'cert-chain.pem', 'svid.0.key': 'key.pem', 'bundle.0.pem': 'root-cert.pem' }
  for (const [from, to] of Object.entries(names)) await rename(join(fresh, from), join(folder, to))

  // istio-agent reads the files and is the provider then; their form is tried by Envoy itself.
  const yaml = await readFile(join(folderOfConfigs, 'istio.yaml'), 'utf8')
  const fromFiles = (peer: { readonly port: number }): object => {
    const config = parse(yaml, { merge: false }) as { static_resources: { listeners: Addressed[], clusters: Cluster[] } }
    const { listeners, clusters } = config.static_resources
    for (const listener of listeners) listener.address = addressOf(0)
    const [first, second] = clusters as [Cluster, Cluster]
    for (const [cluster, { port }] of [[first, workload], [second, peer]] as const) {
      cluster.load_assignment.endpoints[0].lb_endpoints[0].endpoint.address = addressOf(port)
    }
    const text = JSON.stringify({ static_resources: { listeners, clusters: [first, second] } }, (key, value: unknown) => {
      if (key === 'combined_validation_context') return undefined
      if (key !== 'common_tls_context') return value
      const { tls_certificate_sds_secret_configs: _, combined_validation_context: combined, ...rest } = value as TlsContext
      const file = (name: string) => ({ filename: join(folder, name) })
      return {
        ...rest,
        tls_certificates: [{ certificate_chain: file('cert-chain.pem'), private_key: file('key.pem') }],
        validation_context: { ...combined.default_validation_context, trusted_ca: file('root-cert.pem') }
      }
    })
    return JSON.parse(text) as object
  }
  const inward = scope.use(await Envoy.start(fromFiles(nowhere)))
  const outward = scope.use(await Envoy.start(fromFiles({ port: await portOf(inward, 'in') })))
  await outward.ready()
  const port = await portOf(outward, 'out')
  await until('the call to arrive', async () => (await get(port)).status === 200)
  t.match((await get(port)).body, `URI=${backend}`, 'chain, key and roots have the form and the names that istio-agent reads')
})

interface Addressed { address: object }
interface Cluster { readonly load_assignment: { readonly endpoints: [{ readonly lb_endpoints: [{ readonly endpoint: Addressed }] }] } }
interface TlsContext {
  readonly tls_certificate_sds_secret_configs: unknown
  readonly combined_validation_context: { readonly default_validation_context: object }
}

function addressOf (port: number): object { return { socket_address: { address: '127.0.0.1', port_value: port } } }
