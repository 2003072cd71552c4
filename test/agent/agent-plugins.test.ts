import { once } from 'node:events'
import { existsSync, mkdtempSync, realpathSync, rmSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { z } from 'zod'
import { agentCatalog } from '../../src/agent/agent-catalog.ts'
import { pluginSchemas } from '../../src/plugins/catalog.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { workloadService } from '../../src/wire/generated/workload.ts'
import { securityHeader, startTestAgent } from '../fakes/agent.ts'
import { startTestServer } from '../fakes/server.ts'
import { FakeSystemd } from '../fakes/systemd.ts'

const pluginsOf = (section: unknown) => z.strictObject(pluginSchemas(agentCatalog)).parse(section)

await t.test('the workload attestor does as it is configured', async t => {
  await using server = await startTestServer()
  // Without the digest: to hash this program takes a busy machine longer than a caller is given.
  const asked = { discover_workload_path: true, workload_size_limit: -1 }
  const plugins = pluginsOf({ WorkloadAttestor: { unix: { plugin_data: asked } } })
  await using agent = await startTestAgent(server, { config: { plugins } })
  const trustDomain = 'example.org'
  const { results } = await server.admin.client(entryService).batchCreateEntry({
    entries: [{
      spiffeId: { trustDomain, path: '/by-path' },
      parentId: { trustDomain, path: agent.path },
      selectors: [{ type: 'unix', value: `path:${realpathSync('/proc/self/exe')}` }]
    }]
  })
  t.equal(results[0]?.status?.code, 0)
  t.equal(await firstId(agent.workload), 'spiffe://example.org/by-path')
})

await t.test('the systemd attestor, beside the one for Unix', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'assay-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const bus = join(folder, 'bus')
  await using systemd = await FakeSystemd.listen(bus)
  systemd.units.set(process.pid, { id: 'web.service', fragmentPath: '/etc/systemd/system/web.service' })
  await using server = await startTestServer()
  const plugins = pluginsOf({ WorkloadAttestor: { unix: {}, systemd: { plugin_data: { bus_socket_path: bus } } } })
  await using agent = await startTestAgent(server, { config: { plugins } })
  const trustDomain = 'example.org'
  const entryWith = (path: string, ...values: string[]) => ({
    spiffeId: { trustDomain, path },
    parentId: { trustDomain, path: agent.path },
    selectors: [{ type: 'unix', value: `uid:${process.getuid?.()}` }, ...values.map(value => ({ type: 'systemd', value }))]
  })
  const { results } = await server.admin.client(entryService).batchCreateEntry({
    entries: [entryWith('/other', 'id:other.service'), entryWith('/web', 'id:web.service', 'fragment_path:/etc/systemd/system/web.service')]
  })
  t.strictSame(results.map(({ status }) => status?.code), [0, 0])
  t.equal(await firstId(agent.workload), 'spiffe://example.org/web')
})

await t.test('the key manager says whether and where the agent\'s identity stays', async t => {
  await using server = await startTestServer()
  const directory = join(t.testdir({}), 'made', 'for', 'it')
  const disk = pluginsOf({ KeyManager: { disk: { plugin_data: { directory } } } })
  await using kept = await startTestAgent(server, { config: { plugins: disk } })
  t.ok(existsSync(join(directory, 'agent-data.json')))
  t.notOk(existsSync(join(kept.folder, 'agent-data.json')))
  await using forgotten = await startTestAgent(server, { config: { plugins: pluginsOf({ KeyManager: { memory: {} } }) } })
  t.notOk(existsSync(join(forgotten.folder, 'agent-data.json')))
  const notFolder = pluginsOf({ KeyManager: { disk: { plugin_data: { directory: join(directory, 'agent-data.json', 'x') } } } })
  await t.rejects(startTestAgent(server, { config: { plugins: notFolder } }), { code: 'file_unusable', message: /^KeyManager "disk": / })
})

await t.test('without a token there is no way to join', async t => {
  await using server = await startTestServer()
  await t.rejects(startTestAgent(server, { config: { joinToken: undefined } }), { code: 'config_invalid', message: /no join token/ })
  const joinTokenFile = join(t.testdir({}), 'absent')
  await t.rejects(startTestAgent(server, { config: { joinToken: undefined, joinTokenFile } }), { code: 'file_unusable' })
})

await t.test('a taken metrics port ends the agent with the reason', async t => {
  const taken = createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  t.teardown(() => taken.close())
  await using server = await startTestServer()
  const { port } = taken.address() as AddressInfo
  const config = { prometheus: { host: '127.0.0.1', port } }
  const run = startTestAgent(server, { config }).then(agent => agent.ended)
  await t.rejects(run, { code: 'address_unusable', message: new RegExp(`^cannot serve metrics on 127\\.0\\.0\\.1:${port}: `) })
})

/** Asks again, as clients do, until the entry has reached the agent. */
async function firstId (workload: Awaited<ReturnType<typeof startTestAgent>>['workload']): Promise<string | undefined> {
  for (;;) {
    try {
      for await (const { svids } of workload.client(workloadService).fetchX509SVID({}, securityHeader)) return svids[0]?.spiffeId
    } catch (error) {
      if (!['PERMISSION_DENIED', 'UNAVAILABLE'].includes((error as { status?: string }).status ?? '')) throw error
      await new Promise(resolve => setTimeout(resolve, 20))
    }
  }
}
