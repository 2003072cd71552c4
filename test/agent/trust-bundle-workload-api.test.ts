import { once } from 'node:events'
import { createHash, X509Certificate } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { z } from 'zod'
import { agentCatalog } from '../../src/agent/agent-catalog.ts'
import { pluginSchemas } from '../../src/plugins/catalog.ts'
import { bind, openRpcServer } from '../../src/rpc/server.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { agentService } from '../../src/wire/generated/server-agent.ts'
import { workloadService } from '../../src/wire/generated/workload.ts'
import { fetchBundle } from '../fakes/agent-client.ts'
import { startTestAgent } from '../fakes/agent.ts'
import { type LogLine, capturedLog } from '../fakes/captured-log.ts'
import { eventually } from '../fakes/eventually.ts'
import { freePort } from '../fakes/free-port.ts'
import { MachineCa } from '../fakes/machine-ca.ts'
import { startTestServer, testPlugins, type TestServer } from '../fakes/server.ts'

const failures = (lines: readonly LogLine[]) => lines.flatMap(({ msg, err }) =>
  msg === 'joining failed for now; trying again' ? [err as { readonly code: string, readonly message: string }] : [])

async function folderFor (test: Pick<typeof t, 'teardown'>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'assay-source-'))
  test.teardown(() => rm(folder, { recursive: true, force: true }))
  return folder
}

void t.test('an agent joins by the bundle that another agent\'s Workload API gives (spire-surface §6.3)', async t => {
  await using server = await startTestServer()
  const socketPath = join(await folderFor(t), 'first.sock')
  const { log, lines } = capturedLog()
  const joining = startTestAgent(server, { log, config: { trustBundlePath: undefined, trustBundleWorkloadApi: socketPath } })
  await eventually('that there is no other agent', () => failures(lines).some(({ code }) => code === 'workload_api_unavailable'))
  t.match(failures(lines)[0]?.message, `the Workload API at ${socketPath} gave this agent no bundle: `)
  await using first = await startTestAgent(server, { config: { socketPath, allowUnauthenticatedVerifiers: true } })
  await using second = await joining
  const { agents } = await server.admin.client(agentService).listAgents({})
  t.strictSame(new Set(agents.map(({ id }) => id?.path)), new Set([first.path, second.path]))
})

void t.test('a bundle of others does not vouch for the server', async t => {
  await using server = await startTestServer()
  await using namesake = await startTestServer()
  await using first = await startTestAgent(namesake, { config: { allowUnauthenticatedVerifiers: true } })
  await t.rejects(startTestAgent(server, { config: { trustBundlePath: undefined, trustBundleWorkloadApi: first.config.socketPath } }), {
    code: 'bootstrap_untrusted'
  })
  const { log, lines } = capturedLog()
  await using source = await serveBundles(t, { 'spiffe://other.org': server })
  const joining = startTestAgent(server, { log, config: { trustBundlePath: undefined, trustBundleWorkloadApi: source.path } })
  await eventually('it to have asked', () => failures(lines).length > 0)
  t.match(failures(lines)[0], { code: 'workload_api_unavailable', message: /gave this agent no bundle: it knows none of example\.org$/ })
  source.bundles = { 'spiffe://other.org': namesake, 'spiffe://example.org': server }
  await using agent = await joining
  t.ok(agent.path, 'it is asked anew at each attempt')
})

void t.test('an agent attests as at first contact by the bundle that is given then', async t => {
  const folder = await folderFor(t)
  const machines = await MachineCa.create('CN=Company CA')
  const { certificate, key } = await machines.certify()
  const put = async (name: string, text: string) => {
    await writeFile(join(folder, name), text)
    return join(folder, name)
  }
  const roots = await put('roots.pem', machines.pem)
  const shown = { certificate_path: await put('m.pem', certificate), private_key_path: await put('m.key', key) }
  const plugins = z.strictObject(pluginSchemas(agentCatalog)).parse({ NodeAttestor: { x509pop: { plugin_data: shown } } })
  const bindPort = await freePort()
  const startAt = () => startTestServer({ config: {
    bindPort, plugins: testPlugins({ NodeAttestor: { x509pop: { plugin_data: { ca_bundle_path: roots } } } })
  } })
  const { log, lines } = capturedLog()
  const before = await startAt()
  await using source = await serveBundles(t, { 'spiffe://example.org': before })
  await using _ = await startTestAgent(before, { log, config: {
    plugins, joinToken: undefined, rebootstrap: { mode: 'auto', delayMs: 200 },
    trustBundlePath: undefined, trustBundleWorkloadApi: source.path
  } })
  await before[Symbol.asyncDispose]()
  await using after = await startAt()
  const untrusted = () => lines.filter(({ msg, code }) => /could not attest/.test(String(msg)) && code === 'bootstrap_untrusted').length
  await eventually('the old bundle not to vouch for the new server', () => untrusted() > 0, 60_000)
  source.bundles = { 'spiffe://example.org': after }
  const path = `/spire/agent/x509pop/${createHash('sha1').update(new X509Certificate(certificate).raw).digest('hex')}`
  await eventually('it to be an agent of the new server', async () =>
    (await after.admin.client(agentService).listAgents({})).agents.some(({ id }) => id?.path === path), 60_000)
})

/** A Workload API that knows the bundles of these servers, by domain ID, as they are when it is asked. */
async function serveBundles (test: Pick<typeof t, 'teardown'>, bundles: Readonly<Record<string, TestServer>>) {
  const read = async (server: TestServer) => Buffer.concat((await fetchBundle(server)).x509Authorities.map(({ asn1 }) => asn1))
  const readAll = async (servers: Readonly<Record<string, TestServer>>) =>
    new Map(await Promise.all(Object.entries(servers).map(async ([id, server]) => [id, await read(server)] as const)))
  let known = readAll(bundles)
  const server = openRpcServer({
    log: silentLogger, clock: systemClock, services: [bind(workloadService, {
      async * fetchX509Bundles (_request, { signal }) {
        yield { bundles: await known }
        await once(signal, 'abort')
      }
    })]
  })
  await known
  const { path } = await server.listenUnix({ path: join(await folderFor(test), 'source.sock') })
  return {
    path,
    set bundles (servers: Readonly<Record<string, TestServer>>) { known = readAll(servers) },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]()
  }
}
