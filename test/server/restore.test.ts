import { randomBytes } from 'node:crypto'
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { parseServerConfig } from '../../src/server/server-config.ts'
import { decodeBundle } from '../../src/wire/bundle-codec.ts'
import { agentService } from '../../src/wire/generated/server-agent.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { localAuthorityService } from '../../src/wire/generated/server-local-authority.ts'
import { svidService } from '../../src/wire/generated/server-svid.ts'
import { createCertificateRequest } from '../../src/x509/certificate-request.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { verifyX509Svid } from '../../src/x509/verify-svid.ts'
import { attest, identityOf, newKey, openServerChannel, type TestIdentity } from '../fakes/agent-client.ts'
import { postgresMissing, startPostgres } from '../fakes/postgres.ts'
import { databaseKeys } from '../fakes/replicas.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { startTestServer, type TestServer } from '../fakes/server.ts'
import { startFakeVault } from '../fakes/vault.ts'

/** A server's folder, gone when the test ends, and commands about its database. */
async function prepare (t: Test) {
  const folder = await mkdtemp(join(tmpdir(), 'assay-restore-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const datastore = async (command: string, ...words: string[]) => {
    const { code, stdout, stderr } = await runAssay(['datastore', command, '-trustDomain', 'example.org', '-dataDir', folder, ...words])
    t.equal(code, 0, `${command}: ${stderr}`)
    return stdout
  }
  return { folder, datastore, file: (name: string) => join(folder, name) }
}

const message = (path: string) => ({ trustDomain: 'example.org', path })

function idOf ({ chain }: TestIdentity) { return message(new URL(parseCertificate(chain[0] as Uint8Array).uriSans[0] as string).pathname) }

async function renew (server: TestServer, agent: TestIdentity): Promise<TestIdentity> {
  await using channel = openServerChannel(server, agent)
  const key = newKey()
  const { svid } = await channel.client(agentService).renewAgent({ params: { csr: createCertificateRequest(key) } })
  const renewed = identityOf(svid?.certChain ?? [], key)
  await asks(server, renewed)
  return renewed
}

/** How many entries the server gives an agent. @throws {RpcError} when it does not take it for one */
async function asks (server: TestServer, agent: TestIdentity): Promise<number> {
  await using channel = openServerChannel(server, agent)
  return (await channel.client(entryService).getAuthorizedEntries({})).entries.length
}

async function bundleOf (server: TestServer) {
  const bundle = await server.admin.client(bundleService).getBundle({})
  return decodeBundle(bundle)
}

async function register (server: TestServer, id: string, parent: TestIdentity): Promise<void> {
  const entry = { id, spiffeId: message(`/${id}`), parentId: idOf(parent), selectors: [{ type: 'unix', value: 'uid:1' }] }
  const { results } = await server.admin.client(entryService).batchCreateEntry({ entries: [entry] })
  t.equal(results[0]?.status?.code, 0)
}

/** What a server signs now verifies by that bundle. */
async function signsFor (t: Test, server: TestServer, bundle: Awaited<ReturnType<typeof bundleOf>>, message: string): Promise<void> {
  const { svid } = await server.admin.client(svidService).mintX509SVID({
    csr: createCertificateRequest(newKey(), { uriSans: ['spiffe://example.org/minted'] })
  })
  t.ok(verifyX509Svid(svid?.certChain ?? [], { bundleOf: () => bundle, at: new Date() }), message)
}

await t.test('an older backup over a later state: entries go back, agents and authorities go on', async t => {
  const { folder, datastore, file } = await prepare(t)
  const server = await startTestServer({ folder })
  const [staying, banned, evicted] = [await attest(server), await attest(server), await attest(server)]
  await register(server, 'deleted', staying)
  await datastore('backup', file('backup'))

  const renewed = await renew(server, staying)
  await server.admin.client(agentService).banAgent({ id: idOf(banned) })
  await server.admin.client(agentService).deleteAgent({ id: idOf(evicted) })
  const newcomer = await attest(server)
  await server.admin.client(entryService).batchDeleteEntry({ ids: ['deleted'] })
  const authorities = server.admin.client(localAuthorityService)
  const { active: first } = await authorities.getX509AuthorityState({})
  const { preparedAuthority: next } = await authorities.prepareX509Authority({})
  await authorities.activateX509Authority({ authorityId: next?.authorityId })
  await authorities.taintX509Authority({ authorityId: first?.authorityId })
  const before = await bundleOf(server)
  await server[Symbol.asyncDispose]()
  const told = await datastore('restore', '-force', file('backup'))
  t.match(told, /1 authority tainted since: tainted as now[^]*1 agent banned since: banned as now[^]*1 agent evicted since: evicted as now/)

  await using again = await startTestServer({ folder })
  t.equal(await asks(again, renewed), 1, 'the entry is back, and the agent with its renewed SVID')
  t.equal(await asks(again, newcomer), 0, 'who has attested since stays an agent')
  await t.rejects(asks(again, staying), { code: 'agent_not_active' }, 'the SVID of then was replaced')
  await t.rejects(asks(again, banned), { code: 'agent_banned' })
  await t.rejects(asks(again, evicted), { code: 'agent_not_attested' })
  t.strictSame(await bundleOf(again), before, 'the bundle is what it was: one authority tainted')
  await signsFor(t, again, before, 'and what signs is its other one')
})

await t.test('the database is gone: from backup and keys.json the same trust domain goes on', async t => {
  const { folder, datastore, file } = await prepare(t)
  const server = await startTestServer({ folder })
  const [staying, renewing] = [await attest(server), await attest(server)]
  await register(server, 'one', staying)
  await datastore('backup', file('backup'))
  await copyFile(file('keys.json'), file('saved-keys.json'))
  const before = await bundleOf(server)
  const renewed = await renew(server, renewing)
  await server[Symbol.asyncDispose]()
  const lost = ['datastore.sqlite3', 'datastore.sqlite3-wal', 'datastore.sqlite3-shm', 'keys.json']
  for (const name of lost) await rm(file(name), { force: true })

  await copyFile(file('saved-keys.json'), file('keys.json'))
  t.match(await datastore('restore', file('backup')), /Nothing could be compared[^]*put the keys\.json that was saved with this backup/)
  await using again = await startTestServer({ folder })
  t.equal(await asks(again, staying), 1)
  await t.rejects(asks(again, renewed), { code: 'agent_not_active' }, 'who has renewed since must attest again')
  const after = await bundleOf(again)
  t.strictSame(after.x509Authorities, before.x509Authorities)
  t.strictSame(after.jwtAuthorities, before.jwtAuthorities)
  t.ok((after.sequenceNumber ?? 0n) > (before.sequenceNumber ?? 0n), 'partners take it for newer')
  await signsFor(t, again, before, 'who knows the old bundle verifies what is signed now')
})

await t.test('it moves to a configuration whose keys Vault wraps, and agents notice nothing', async t => {
  await using vault = await startFakeVault()
  const { folder, file } = await prepare(t)
  const server = await startTestServer({ folder })
  const agent = await attest(server)
  const before = await bundleOf(server)
  await server[Symbol.asyncDispose]()
  const old = file('old.yaml')
  await writeFile(old, `server: { trust_domain: example.org, data_dir: ${folder} }\n`)
  const datastoreUrl = file('moved.sqlite3')
  const key = (token: string) => ({ hashicorp_vault: { vault_addr: vault.address, token_auth: { token }, key_name: 'assay-kek' } })
  const configOf = async (more: object, KeyManager: object) => {
    const name = file('next.yaml')
    const server = { trust_domain: 'example.org', data_dir: file('next'), datastore_url: datastoreUrl, ...more }
    await writeFile(name, JSON.stringify({ server, plugins: { KeyManager } }))
    return name
  }
  const migrate = async (...words: string[]) => await runAssay(['datastore', 'migrate', '-config', old, ...words])
  const byVault = (token = 'root') => ({ database: { plugin_data: { key_encryption_key: key(token) } } })

  const refused = { code: 1, stderr: /code: key_service_refused/ }
  t.match(await migrate('-toConfig', await configOf({}, byVault('stranger'))), refused, 'Vault is asked before anything moves')
  const other = await migrate('-toConfig', await configOf({ trust_domain: 'other.org' }, byVault()))
  t.match(other, { code: 2, stderr: /is of other\.org, and what is to move is of example\.org/ })
  const memory = await migrate('-toConfig', await configOf({}, { memory: { plugin_data: {} } }))
  t.match(memory, { code: 2, stderr: /is "memory", into which no keys can be taken along/ })
  const next = await configOf({}, byVault())
  t.match(await migrate('-toConfig', next, '-to', datastoreUrl), { code: 2, stderr: /-toConfig stands in place of -to/ })
  const moved = await migrate('-toConfig', next)
  t.match(moved, { code: 0, stdout: /next: start the servers with .*next\.yaml\n {2}next: in the end delete .*keys\.json\n/ }, moved.stderr)

  const plugins = {
    KeyManager: parseServerConfig({ file: { name: next, text: await readFile(next, 'utf8') } }).plugins.KeyManager,
    UpstreamAuthority: [], NodeAttestor: [], BundlePublisher: [], CredentialComposer: [], Notifier: []
  }
  await using again = await startTestServer({ config: { datastoreUrl, plugins } })
  t.strictSame(await bundleOf(again), before, 'the same authorities, not one more')
  t.equal(await asks(again, agent), 0, 'an agent of before is one still')
  await signsFor(t, again, before, 'and what signs is below the root that it knows')
})

const skip = postgresMissing()
await t.test('one server moves to PostgreSQL and becomes two, and agents notice nothing', { skip }, async t => {
  await using postgres = await startPostgres()
  const { folder, datastore, file } = await prepare(t)
  const kek = file('kek')
  await writeFile(kek, randomBytes(32).toString('hex'), { mode: 0o600 })
  const server = await startTestServer({ folder })
  const agent = await attest(server)
  await register(server, 'one', agent)
  const before = await bundleOf(server)
  await server[Symbol.asyncDispose]()
  const datastoreUrl = await postgres.createSchema()
  t.match(await datastore('migrate', '-to', datastoreUrl, '-keyEncryptionKeyFile', kek), /next: set the key manager to "database"/)

  await using one = await startTestServer({ config: { datastoreUrl, ...databaseKeys(kek) } })
  await using two = await startTestServer({ config: { datastoreUrl, ...databaseKeys(kek) } })
  for (const replica of [one, two]) {
    t.strictSame(await bundleOf(replica), before, 'the same authorities, not one more')
    t.equal(await asks(replica, agent), 1)
    await signsFor(t, replica, before, 'an intermediate under the root that everybody knows')
  }

  await t.test('with the key manager of one server it goes on too, there and back', async t => {
    const there = await postgres.createSchema()
    await datastore('migrate', '-to', there)
    const alone = await startTestServer({ folder, config: { datastoreUrl: there } })
    t.strictSame(await bundleOf(alone), before)
    await signsFor(t, alone, before, 'with the same root')
    const joined = await attest(alone)
    await alone[Symbol.asyncDispose]()

    await rm(file('datastore.sqlite3'))
    await writeFile(file('server.yaml'), `server: { trust_domain: example.org, data_dir: ${folder}, datastore_url: "${there}" }\n`)
    const { code, stderr } = await runAssay(['datastore', 'migrate', '-config', file('server.yaml'), '-to', file('datastore.sqlite3')])
    t.equal(code, 0, stderr)
    await using back = await startTestServer({ folder })
    t.strictSame(await bundleOf(back), before)
    t.equal(await asks(back, joined), 0, 'who joined meanwhile is known')
    await signsFor(t, back, before, 'with the same root')
  })

  await t.test('a database that other tools set back begins a new epoch', async t => {
    const { code, stderr } = await runAssay(['datastore', 'new-epoch', '-datastore', datastoreUrl])
    t.match({ code, stderr }, { code: 1, stderr: /in use by 2 servers[^]*datastore_in_use/ })
    const alone = await postgres.createSchema()
    t.match(await runAssay(['datastore', 'new-epoch', '-datastore', alone]), { code: 1, stderr: /holds nothing of Assay yet/ })
    await datastore('migrate', '-to', alone)
    const epochs = await Promise.all([1, 2].map(async () => {
      const { stdout } = await runAssay(['datastore', 'new-epoch', '-datastore', alone, '-output', 'json'])
      return (JSON.parse(stdout) as { epoch: string }).epoch
    }))
    t.not(epochs[0], epochs[1])
  })
})
