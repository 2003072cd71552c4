import { copyFile, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import { DatabaseSync } from 'node:sqlite'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { newestSchema } from '../../src/storage/migrations/migrate.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { attestOver, openServerChannel } from '../fakes/agent-client.ts'
import { eventually } from '../fakes/eventually.ts'
import { startAgent, startServer } from '../fakes/processes.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { Administrator, idMessage } from '../interop/administrator.ts'

t.setTimeout(120_000)

/**
 * What a server and an agent of November 25, 2026, with schema 2, left behind: the database as SQL, the keys of its CA and its JWT-SVIDs,
 * and the agent's data folder. `ca_ttl` was ten years and `agent_ttl` five: they can be taken over until 2031. Nobody trusts these keys.
 */
const fixture = join(import.meta.dirname, 'older-data')
const agentId = 'spiffe://example.org/spire/agent/join_token/1574eb24-2538-4b84-a91e-cc2aadd2aa54'
const unusedToken = 'e5cb4c02-a7a6-45e0-86a6-64592bdd7f90'
const caId = '1e24092cb22b58c5b299827439552759c79da729'

await t.test('data of an older schema: server and agent of today take them over, and workloads are served', async t => {
  await using scope = new AsyncDisposableStack()
  const folder = await mkdtemp(join(tmpdir(), 'assay-older-'))
  scope.defer(() => rm(folder, { recursive: true, force: true }))
  const [serverData, agentData] = [join(folder, 'server', 'data'), join(folder, 'agent', 'data')]
  for (const made of [serverData, agentData]) await mkdir(made, { recursive: true, mode: 0o700 })
  const file = join(serverData, 'datastore.sqlite3')
  const schemas = () => {
    using scope = new DisposableStack()
    const database = scope.adopt(new DatabaseSync(file), database => database.close())
    return database.prepare('select number from schema_migrations order by number').all().map(({ number }) => Number(number))
  }
  {
    using scope = new DisposableStack()
    const database = scope.adopt(new DatabaseSync(file), database => database.close())
    database.exec(await readFile(join(fixture, 'schema-2.sql'), 'utf8'))
  }
  t.same(schemas(), [1, 2], 'it is an older one')
  const keys = join(serverData, 'keys.json')
  await copyFile(join(fixture, 'keys.json'), keys)
  await copyFile(join(fixture, 'agent-data.json'), join(agentData, 'agent-data.json'))

  const server = scope.use(await startServer({
    folder: join(folder, 'server'), config: { ca_ttl: '87600h', agent_ttl: '43800h' },
    blocks: { plugins: { KeyManager: { disk: { plugin_data: { keys_path: keys } } } } }
  }))
  t.same(schemas(), Array.from({ length: newestSchema }, (_, index) => index + 1), 'migrated')
  const admin = scope.use(new Administrator(server))

  await t.test('keys, entries, agents, partners and tokens are there', async t => {
    const { active } = await admin.authorities.getX509AuthorityState({})
    t.equal(active?.authorityId, caId, 'it signs by the same CA')
    t.equal((await admin.bundles.getBundle({})).jwtAuthorities[0]?.keyId, 'hBfLkTHGMyfUMgmTpIu1APIQHKtXi53M')
    t.match((await admin.entries.listEntries({})).entries, [{
      id: 'web-1', spiffeId: { path: '/web' }, dnsNames: ['web.test'], x509SvidTtl: 600, hint: 'public', storeSvid: false,
      selectors: [{ type: 'unix', value: 'uid:0' }]
    }])
    t.match((await admin.agents.listAgents({})).agents, [{ id: idMessage(agentId), attestationType: 'join_token', banned: false }])
    t.equal((await admin.bundles.listFederatedBundles({})).bundles[0]?.trustDomain, 'partner.test')
    await using channel = openServerChannel({ ready: { port: server.port } })
    const { chain: [leaf] } = await attestOver(channel, unusedToken)
    t.same(parseCertificate(leaf as Uint8Array).uriSans, [`spiffe://example.org/spire/agent/join_token/${unusedToken}`])
  })

  await t.test('the agent needs no token: it has its identity, and gives workloads theirs', async t => {
    const uid = process.getuid?.() ?? 0
    await admin.register('spiffe://example.org/mine', agentId, { selectors: [{ type: 'unix', value: `uid:${uid}` }] })
    const agent = scope.use(await startAgent({ server, folder: join(folder, 'agent') }))
    t.equal(agent.id, agentId)
    await eventually('the workload\'s SVID', async () =>
      (await runAssay(['api', 'fetch', 'x509', '-socketPath', agent.socket])).stdout.includes('spiffe://example.org/mine'), 60_000)
    t.notMatch(agent.process.log, /node attested/, 'it did not attest again')
  })
})
