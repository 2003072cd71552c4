import { once } from 'node:events'
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { parse } from 'yaml'
import { placeEnvoyConfig } from '../../src/cli/demo/place-envoy-config.ts'
import { Envoy, noEnvoy, get, until } from '../fakes/envoy.ts'
import { startAgent, startServer } from '../fakes/processes.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { Workload } from '../faults/workload.ts'
import { createWebCa } from '../federation/web-ca.ts'
import { Administrator } from '../interop/administrator.ts'
import { folderOfConfigs, portOf, startPlacedEnvoy, startWorkload } from './mesh.ts'

const skip = noEnvoy()
const backend = 'spiffe://example.org/ns/default/sa/backend'
const webCa = await createWebCa()
const rootsFile = join(t.testdir(), 'roots.pem')
await writeFile(rootsFile, webCa.root)
const nowhere = { host: '127.0.0.1', port: 1 }

/** An agent that listens where Istio's proxies look for a SPIFFE provider; the machine's root is a folder of the test's own. */
async function setUp (t: Test, sds: object = {}) {
  const scope = new AsyncDisposableStack()
  t.teardown(() => scope.disposeAsync())
  const root = await mkdtemp(join(tmpdir(), 'istio-'))
  scope.defer(() => rm(root, { recursive: true, force: true }))
  const socket = join(root, 'var/run/secrets/workload-spiffe-uds/socket')
  const server = scope.use(await startServer())
  const agent = scope.use(await startAgent({ server, config: { socket_path: socket, sds } }))
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
  const inward = scope.use(await startPlacedEnvoy('istio.yaml', 'GRPC', socket, { workload, peer: nowhere }, true))
  await inward.ready()
  const peer = { host: '127.0.0.1', port: await portOf(inward, 'in') }
  const outward = scope.use(await startPlacedEnvoy('istio.yaml', 'GRPC', socket, { workload: nowhere, peer }, true))
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
  const third = scope.use(await startPlacedEnvoy('istio.yaml', 'GRPC', socket, { workload, peer: nowhere }, true))
  const wrong = { host: '127.0.0.1', port: await portOf(third, 'in') }
  const caller = scope.use(await startPlacedEnvoy('istio.yaml', 'GRPC', socket, { workload: nowhere, peer: wrong }, true))
  await caller.ready()
  t.equal((await get(await portOf(caller, 'out'))).status, 503, 'a server of another service account is refused')
})

await t.test('configuration as istiod sends it, with names of files in it', { skip, timeout: 300_000 }, async t => {
  const { scope, root, socket, workload } = await setUp(t, { system_roots_file: rootsFile })
  const inward = scope.use(await startPlacedEnvoy('istio.yaml', 'GRPC', socket, { workload, peer: nowhere }, true))
  await inward.ready()
  const peer = { host: '127.0.0.1', port: await portOf(inward, 'in') }
  const yaml = await readFile(join(folderOfConfigs, 'istio.yaml'), 'utf8')
  const anywhere = { host: '127.0.0.1', port: 0 }
  const { node, static_resources: { listeners, clusters } } = JSON.parse(placeEnvoyConfig(yaml, {
    admin: '', agent: socket, listeners: { in: anywhere, out: anywhere }, clusters: { workload: nowhere, peer }
  })) as IstioProxy
  const [provider, sent] = ['sds-grpc', 'peer'].map(wanted => clusters.find(({ name }) => name === wanted))
  const { port: webPort } = scope.use(await startWebServer())
  // A DestinationRule of mode SIMPLE for a host outside, and one that names a file.
  const outside = (name: string, secret: string) => {
    const upstream = sent?.transport_socket?.typed_config
    const { validation_context_sds_secret_config: roots } = upstream?.common_tls_context.combined_validation_context ?? {}
    const validation = { default_validation_context: {}, validation_context_sds_secret_config: { ...roots, name: secret } }
    const tls = { '@type': upstream?.['@type'], sni: 'localhost', common_tls_context: { combined_validation_context: validation } }
    return {
      ...sent, name, transport_socket: { name: 'envoy.transport_sockets.tls', typed_config: tls },
      load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: [{ endpoint: { address: addressOf(webPort) } }] }] }
    }
  }
  const send = async (file: string, type: string, resources: readonly (object | undefined)[]) => {
    const all = resources.map(resource => ({ '@type': `type.googleapis.com/envoy.config.${type}`, ...resource }))
    await writeFile(join(root, `.${file}`), JSON.stringify({ resources: all }))
    await rename(join(root, `.${file}`), join(root, file))
    return { resource_api_version: 'V3', path_config_source: { path: join(root, file) } }
  }
  const known = [sent, outside('outside', 'file-root:system')]
  const out = JSON.stringify(listeners.find(({ name }) => name === 'out'))
  const external = out.replace('"cluster":"peer"', '"cluster":"outside"').replace('"name":"out"', '"name":"external"')
  const outward = scope.use(await Envoy.start({
    node, static_resources: { clusters: [provider] }, dynamic_resources: {
      cds_config: await send('cds.json', 'cluster.v3.Cluster', known),
      lds_config: await send('lds.json', 'listener.v3.Listener', [out, external].map(text => JSON.parse(text) as object))
    }
  }))
  await outward.ready()
  const port = await portOf(outward, 'out')
  await until('the call to arrive', async () => (await get(port)).status === 200, 60_000)
  t.match((await get(port)).body, `URI=${backend}`, 'a proxy whose listeners and clusters come from elsewhere')
  const externalPort = await portOf(outward, 'external')
  await until('the call to the outside', async () => (await get(externalPort)).status === 200, 60_000)
  t.equal((await get(externalPort)).body, 'outside', 'file-root:system is what the proxy\'s own system has')

  await send('cds.json', 'cluster.v3.Cluster', [...known, outside('unknown', 'file-root:/etc/shadow')])
  await until('the agent to refuse the name', async () => {
    const stats = await outward.stats('shadow')
    return [...stats].some(([name, value]) => name.endsWith('update_failure') && Number(value) > 0)
  }, 60_000)
  t.equal((await get(port)).status, 200, 'a file of anybody\'s choice is refused, which harms no other name')
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

interface IstioProxy {
  readonly node: object
  readonly static_resources: {
    readonly listeners: readonly { readonly name: string }[]
    readonly clusters: readonly { readonly name: string, readonly transport_socket?: { readonly typed_config: UpstreamTls } }[]
  }
}
interface UpstreamTls {
  readonly '@type': string
  readonly common_tls_context: { readonly combined_validation_context: { readonly validation_context_sds_secret_config: object } }
}
interface Addressed { address: object }
interface Cluster { readonly load_assignment: { readonly endpoints: [{ readonly lb_endpoints: [{ readonly endpoint: Addressed }] }] } }
interface TlsContext {
  readonly tls_certificate_sds_secret_configs: unknown
  readonly combined_validation_context: { readonly default_validation_context: object }
}

/** A server outside, whose certificate is of a CA of the web's kind. */
async function startWebServer (): Promise<{ readonly port: number } & AsyncDisposable> {
  const { cert, key } = await webCa.certify()
  const server = createServer({ cert, key }, (_request, response) => { response.end('outside') }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose] () {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    }
  }
}

function addressOf (port: number): object { return { socket_address: { address: '127.0.0.1', port_value: port } } }
