import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { z } from 'zod'
import { agentCatalog } from '../../src/agent/agent-catalog.ts'
import { pluginSchemas } from '../../src/plugins/catalog.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import type { EntryInit } from '../../src/wire/generated/types.ts'
import { workloadService } from '../../src/wire/generated/workload.ts'
import { parseCertificate, splitCertificates } from '../../src/x509/certificate.ts'
import { securityHeader, startTestAgent, type TestAgent } from '../fakes/agent.ts'
import { attest, createJoinToken, openServerChannel } from '../fakes/agent-client.ts'
import { ManualClock } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'
import { MachineCa } from '../fakes/machine-ca.ts'
import { startTestServer, testPlugins, type TestServer } from '../fakes/server.ts'
import { id, seed } from '../server/admin/admin-client.ts'

const self = [{ type: 'unix', value: `uid:${process.getuid?.() ?? 0}` }]

/** What this process is at an agent, by SPIFFE ID, with the DNS names of each; empty where it is nobody. */
async function identities (agent: TestAgent): Promise<Record<string, readonly string[]>> {
  try {
    for await (const { svids } of agent.workload.client(workloadService).fetchX509SVID({}, securityHeader)) {
      const namesOf = (chain: Uint8Array) => parseCertificate(splitCertificates(chain)[0] as Uint8Array).dnsSans
      return Object.fromEntries(svids.map(({ spiffeId, x509Svid }) => [spiffeId, namesOf(x509Svid)]))
    }
  } catch (error) {
    if (!['PERMISSION_DENIED', 'UNAVAILABLE'].includes((error as { status?: string }).status ?? '')) throw error
  }
  return {}
}

const sorted = (byId: Record<string, readonly string[]>) => Object.entries(byId).map(entry => JSON.stringify(entry)).toSorted().join('\n')

async function becomes (t: Test, agent: TestAgent, expected: Record<string, readonly string[]>, what: string): Promise<void> {
  const wanted = Object.fromEntries(Object.entries(expected).map(([path, names]) => [`spiffe://example.org${path}`, names]))
  let seen: Record<string, readonly string[]> = {}
  await eventually(() => `${what}: ${JSON.stringify(seen)}`, async () => {
    seen = await identities(agent)
    return sorted(seen) === sorted(wanted)
  })
  t.pass(what)
}

t.test('SPIRE\'s scenario "entries": aliases of nodes and of join tokens, update and delete reach the agents', async t => {
  await using scope = new AsyncDisposableStack()
  const folder = await mkdtemp(join(tmpdir(), 'assay-entries-'))
  scope.defer(() => rm(folder, { recursive: true, force: true }))
  const ca = await MachineCa.create('CN=machines')
  const roots = join(folder, 'roots.pem')
  await writeFile(roots, ca.pem)
  const server = scope.use(await startTestServer({ config: {
    plugins: testPlugins({ NodeAttestor: { x509pop: { plugin_data: { ca_bundle_path: roots } } } })
  } }))
  const byMachine = async (name: string) => {
    const machine = await ca.certify({ name: `CN=${name}`, sans: [{ type: 'url', value: 'x509pop://example.org/cluster/test' }] })
    const files = { certificate_path: join(folder, `${name}.pem`), private_key_path: join(folder, `${name}.key`) }
    await writeFile(files.certificate_path, machine.certificate)
    await writeFile(files.private_key_path, machine.key)
    const plugins = z.strictObject(pluginSchemas(agentCatalog)).parse({ NodeAttestor: { x509pop: { plugin_data: files } } })
    return scope.use(await startTestAgent(server, { config: { plugins, joinToken: undefined } }))
  }
  const one = await byMachine('one')
  const two = await byMachine('two')
  const three = scope.use(await startTestAgent(server, { token: await createJoinToken(server, id('/cluster/test')) }))
  const [, , withDns = ''] = await seed(server, [
    { spiffeId: id('/cluster/test'), parentId: id('/spire/server'), selectors: [{ type: 'x509pop', value: 'san:cluster:test' }] },
    { spiffeId: id('/shared'), parentId: id('/cluster/test'), selectors: self },
    { spiffeId: id('/with-dns'), parentId: id('/cluster/test'), selectors: self, dnsNames: ['example.org'] },
    { spiffeId: id('/lazy'), parentId: id('/cluster/test'), selectors: [{ type: 'unix', value: 'uid:4242' }],
      additionalAttributes: { disableX509SvidPrefetch: true } },
    { spiffeId: id('/only-three'), parentId: id(three.path), selectors: self }
  ])
  const shared = { '/shared': [], '/with-dns': ['example.org'] }
  for (const [name, agent] of Object.entries({ one, two })) await becomes(t, agent, shared, `agent ${name}, by the alias of its node`)
  await becomes(t, three, { ...shared, '/only-three': [] }, 'agent three, by the alias of its token and by itself')

  await change(server, { id: withDns, dnsNames: ['example.com'] })
  for (const agent of [one, two]) await becomes(t, agent, { '/shared': [], '/with-dns': ['example.com'] }, 'the update arrives')
  await server.admin.client(entryService).batchDeleteEntry({ ids: [withDns] })
  for (const agent of [one, two]) await becomes(t, agent, { '/shared': [] }, 'the removal arrives')
  await becomes(t, three, { '/shared': [], '/only-three': [] }, 'the removal arrives there too')
})

t.test('an entry that has expired is pruned, and an alias that has expired takes what lay below it (spire-surface §3.1)', async t => {
  const start = new Date()
  const clock = new ManualClock(start)
  await using server = await startTestServer({ clock, config: { agentTtlSeconds: 86_400 } })
  const token = await createJoinToken(server)
  await using agent = openServerChannel(server, await attest(server, token))
  const parentId = id(`/spire/agent/join_token/${token}`)
  const expiresAt = Math.floor(start.getTime() / 1000) + 60
  await seed(server, [
    { id: 'short', spiffeId: id('/short'), parentId, selectors: self, expiresAt },
    { id: 'below', spiffeId: id('/below'), parentId: id('/short'), selectors: self },
    { id: 'later', spiffeId: id('/later'), parentId, selectors: self, expiresAt: expiresAt + 3600 },
    { id: 'lasting', spiffeId: id('/lasting'), parentId, selectors: self }
  ])
  const authorized = async () => (await agent.client(entryService).getAuthorizedEntries({})).entries.map(entry => entry.id).toSorted()
  t.same(await authorized(), ['below', 'lasting', 'later', 'short'], 'expiry is not looked at but when entries are pruned')
  await eventually('the chore of five minutes', async () => {
    await clock.advance(10_000)
    return (await server.admin.client(entryService).countEntries({})).count === 3
  })
  t.same(await authorized(), ['lasting', 'later'])
  t.ok(clock.now().getTime() - start.getTime() >= 300_000, 'it comes every five minutes')
})

async function change (server: TestServer, entry: EntryInit): Promise<void> {
  const request = { entries: [entry], inputMask: { dnsNames: true } }
  const { results: [result] } = await server.admin.client(entryService).batchUpdateEntry(request)
  if (result?.status?.code !== 0) throw new Error(result?.status?.message)
}
