import { copyFile, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { decodeNodeCache, type NodeCache } from '../../src/agent/cache/node-cache.ts'
import { fileSealingPlugin } from '../../src/agent/sealing/file-sealing-plugin.ts'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { firstOf } from '../../src/runtime/first-of.ts'
import { secretDiscoveryService } from '../../src/wire/generated/envoy-sds.ts'
import { revocationService } from '../../src/wire/generated/revocation.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { workloadService, type X509SVIDResponse } from '../../src/wire/generated/workload.ts'
import { securityHeader } from '../fakes/agent.ts'
import { eventually } from '../fakes/eventually.ts'
import { startAgent, startServer, type RunningAgent, type RunningServer } from '../fakes/processes.ts'

const id = (path: string) => ({ trustDomain: 'example.org', path })

async function register (server: RunningServer, agent: RunningAgent, path: string) {
  await using admin = openUnixChannel(server.adminSocket)
  await admin.client(entryService).batchCreateEntry({ entries: [{
    spiffeId: id(path),
    parentId: id(agent.id.replace('spiffe://example.org', '')),
    selectors: [{ type: 'unix', value: `uid:${process.getuid?.()}` }]
  }] })
}

/** What an agent says to a first call: its answer or the code of its refusal. */
async function ask ({ socket }: { readonly socket: string }): Promise<X509SVIDResponse | string> {
  await using channel = openUnixChannel(socket)
  try {
    return await firstOf(channel.client(workloadService).fetchX509SVID({}, { ...securityHeader, timeoutMs: 30_000 })) ?? 'nothing'
  } catch (error) {
    return (error as { code?: string, status: string }).code ?? (error as { status: string }).status
  }
}

async function served (agent: RunningAgent): Promise<X509SVIDResponse> {
  let answer: X509SVIDResponse | string = ''
  await eventually('the agent serves', async () => typeof (answer = await ask(agent)) === 'object', 60_000)
  return answer as unknown as X509SVIDResponse
}

const mark = 'assay agent cache 1\n'

/** Read beside a running agent, whose half-written files must not be cleared away as `CacheFile` does at a start. */
async function cacheOf (agent: RunningAgent): Promise<NodeCache | undefined> {
  try {
    const sealing = await fileSealingPlugin.start({}, { dataDir: agent.dataDir }, AbortSignal.timeout(60_000))
    const bytes = await readFile(join(agent.dataDir, 'agent-cache'))
    return decodeNodeCache(await sealing.open(bytes.subarray(mark.length), `${mark}example.org`))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

const kept = async (agent: RunningAgent, svids = 1) => await eventually(
  'the cache is written', async () => {
    const cache = await cacheOf(agent)
    return cache?.entries.length === 1 && cache.svids.length === svids
  }, 60_000
)

/** ID, certificate and key of each; of a refusal its code alone. */
function svidsOf (answer: X509SVIDResponse | string): string[][] {
  if (typeof answer === 'string') return [[answer]]
  return answer.svids.map(({ spiffeId, x509Svid, x509SvidKey }) =>
    [spiffeId, Buffer.from(x509Svid).toString('hex'), Buffer.from(x509SvidKey).toString('hex')])
}

t.test('after kill -9, with every server down, an agent serves the same SVIDs at once, and goes on when its server is back', async t => {
  await using server = await startServer()
  await using agent = await startAgent({ server })
  await register(server, agent, '/web')
  const before = await served(agent)
  await kept(agent)
  await agent.kill9()
  await server.kill9()

  await using again = await startAgent({ server, folder: agent.folder })
  t.same(svidsOf(await ask(again)), svidsOf(before), 'the first answer')
  await using channel = openUnixChannel(again.socket)
  const sds = channel.client(secretDiscoveryService)
  const secrets = await sds.fetchSecrets({ resourceNames: ['spiffe://example.org/web'] }, { timeoutMs: 30_000 })
  t.equal(secrets.resources.length, 1, 'to Envoy too')
  t.match(again.process.lines().find(({ msg }) => String(msg).startsWith('serving what was kept')), { entries: 1, svids: 1 })

  await using back = await startServer({ folder: server.folder, port: server.port })
  await register(back, again, '/second')
  await eventually('a new entry arrives', async () => svidsOf(await ask(again)).length === 2, 60_000)
  const [web] = svidsOf(before)
  t.same(svidsOf(await ask(again)).find(svid => svid[0] === web?.[0]), web, 'and what was kept stays until it is due')
  t.equal(await again.stop(), 0)
})

t.test('what is revoked stays revoked for an agent that restarts with every server down', async t => {
  await using server = await startServer()
  await using agent = await startAgent({ server })
  await register(server, agent, '/web')
  await served(agent)
  await kept(agent)
  {
    await using admin = openUnixChannel(server.adminSocket)
    await admin.client(revocationService).revoke({ spiffeId: id('/web') })
  }
  await eventually('the workload has lost it', async () => await ask(agent) === 'no_identity_issued', 60_000)
  await eventually('so has the cache', async () => (await cacheOf(agent))?.revocations.length === 1, 60_000)
  await agent.kill9()
  await server.kill9()
  await using again = await startAgent({ server, folder: agent.folder })
  t.equal(await ask(again), 'no_identity_issued')
  t.match(await cacheOf(again), { entries: [], svids: [], revocations: [{ kind: 'spiffe_id', subject: 'spiffe://example.org/web' }] })
})

t.test('what a restarted agent does not serve', async t => {
  await using server = await startServer()
  await using agent = await startAgent({ server })
  await register(server, agent, '/web')
  await served(agent)
  await kept(agent)
  const cache = join(agent.dataDir, 'agent-cache')
  await copyFile(cache, `${cache}.old`)
  const { generation } = await cacheOf(agent) ?? { generation: 0 }
  await register(server, agent, '/second')
  await eventually('the next one is written, with both', async () => {
    const next = await cacheOf(agent)
    return next !== undefined && next.generation > generation && next.svids.length === 2
  }, 60_000)
  await agent.stop()
  await server.kill9()
  await copyFile(cache, `${cache}.new`)

  const restarted = async (config: Record<string, unknown> = {}) => await startAgent({ server, folder: agent.folder, config })
  const warned = ({ process }: RunningAgent) => process.lines().map(({ code }) => code).filter(code => String(code).startsWith('cache_'))
  await copyFile(`${cache}.old`, cache)
  {
    await using rolledBack = await restarted()
    t.equal(await ask(rolledBack), 'server_initializing', 'a cache that was put back')
    t.same(warned(rolledBack), ['cache_rolled_back'])
  }
  await writeFile(cache, 'rubbish')
  {
    await using corrupt = await restarted()
    t.equal(await ask(corrupt), 'server_initializing', 'a broken cache')
    t.same(warned(corrupt), ['cache_unusable'])
  }
  await copyFile(`${cache}.new`, cache)
  {
    await using late = await restarted({ offline_max_age: '10ms' })
    t.equal(await ask(late), 'server_initializing', 'an old cache')
    t.same(warned(late), ['cache_too_old'])
  }
  await copyFile(`${cache}.new`, cache)
  {
    await using good = await restarted()
    const both = new Set(['spiffe://example.org/second', 'spiffe://example.org/web'])
    t.same(new Set(svidsOf(await ask(good)).map(svid => svid[0])), both, 'the newest is served')
  }
})

t.test('with keep_workload_keys: false no workload\'s key is kept, even of the time before', async t => {
  await using server = await startServer()
  await using agent = await startAgent({ server })
  await register(server, agent, '/web')
  await served(agent)
  await kept(agent)
  await agent.stop()
  const config = { keep_workload_keys: false }
  await using forgetful = await startAgent({ server, folder: agent.folder, config })
  await served(forgetful)
  await kept(forgetful, 0)
  t.equal(await forgetful.stop(), 0)
  t.same((await cacheOf(agent))?.svids, [])
})

t.test('with the key manager "memory" nothing is kept at all', async t => {
  await using server = await startServer()
  await using agent = await startAgent({ server, plugins: { KeyManager: { memory: {} } } })
  await register(server, agent, '/web')
  await served(agent)
  t.equal(await agent.stop(), 0)
  for (const name of ['agent-cache', 'agent-cache.key', 'agent-data.json']) {
    await t.rejects(stat(join(agent.dataDir, name)), { code: 'ENOENT' }, name)
  }
})
