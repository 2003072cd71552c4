import { createHash, X509Certificate } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { agentService } from '../../src/wire/generated/server-agent.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { workloadService } from '../../src/wire/generated/workload.ts'
import { decodePem } from '../../src/x509/pem.ts'
import { eventually } from '../fakes/eventually.ts'
import { freePort } from '../fakes/free-port.ts'
import { MachineCa } from '../fakes/machine-ca.ts'
import { startAgent, startServer } from '../fakes/processes.ts'
import { buildGoPlugin, withoutGo } from '../interop/go-programs.ts'

t.setTimeout(300_000)
const metadata = { 'workload.spiffe.io': 'true' }

void t.test('a server and an agent whose plugins are all programs of SPIRE\'s SDK', { skip: withoutGo }, async t => {
  const binary = await buildGoPlugin()
  const plugin_checksum = createHash('sha256').update(await readFile(binary)).digest('hex')
  const block = (type: string, plugin_data: object) => ({ plugin_cmd: binary, plugin_args: [type], plugin_checksum, plugin_data })
  const root = await MachineCa.create('CN=Company CA')
  const server = await startServer({ blocks: { plugins: {
    KeyManager: { acme_keys: block('KeyManager', {}) },
    UpstreamAuthority: [{ acme_pki: block('UpstreamAuthority', { ca_key: await root.keyPem(), ca_certificate: root.pem }) }],
    NodeAttestor: { tpm: block('ServerNodeAttestor', { label: 'tpm' }) }
  } } })
  t.teardown(() => server[Symbol.asyncDispose]())
  const plugin_data_file = join(t.testdir(), 'acme.hcl')
  await writeFile(plugin_data_file, 'label = "green"')
  const port = await freePort()
  const agent = await startAgent({
    server,
    config: { join_token: undefined },
    plugins: {
      NodeAttestor: { tpm: block('AgentNodeAttestor', { label: 'node-7' }) },
      WorkloadAttestor: { acme: { ...block('WorkloadAttestor', {}), plugin_data_file }, unix: {} }
    },
    blocks: { telemetry: { Prometheus: { host: '127.0.0.1', port } } }
  })
  t.teardown(() => agent[Symbol.asyncDispose]())
  t.equal(agent.id, 'spiffe://example.org/spire/agent/tpm/node-7')
  await using admin = openUnixChannel(server.adminSocket)
  t.match((await admin.client(agentService).listAgents({})).agents, [
    { attestationType: 'tpm', canReattest: true, selectors: [
      { type: 'tpm', value: 'known:false' }, { type: 'tpm', value: 'node:node-7' },
      { type: 'tpm', value: 'server:spiffe://example.org/spire/server' }
    ] }
  ], 'the server gave its plugin its identity')
  await admin.client(entryService).batchCreateEntry({ entries: [{
    spiffeId: { trustDomain: 'example.org', path: '/blue' }, parentId: { trustDomain: 'example.org', path: '/spire/agent/tpm/node-7' },
    selectors: [
      { type: 'acme', value: 'label:blue' }, { type: 'acme', value: `pid:${process.pid}` },
      { type: 'unix', value: `uid:${process.getuid?.()}` }
    ]
  }] })
  const lines = () => agent.process.lines().filter(({ plugin }) => plugin === 'acme')
  await writeFile(plugin_data_file, 'label = "blue"')
  process.kill(agent.process.pid, 'SIGUSR1')
  await eventually('its file to be read again', () => lines().some(({ msg }) => msg === 'plugin was configured anew'))
  await using workload = openUnixChannel(agent.socket)
  let chain: Uint8Array | undefined
  let bundle: Uint8Array | undefined
  await eventually('the workload to have its SVID', async () => {
    try {
      for await (const { svids: [svid] } of workload.client(workloadService).fetchX509SVID({}, { metadata })) {
        [chain, bundle] = [svid?.x509Svid, svid?.bundle]
        return svid?.spiffeId === 'spiffe://example.org/blue'
      }
    } catch {}
    return false
  }, 60_000)
  t.strictSame(Buffer.from(bundle ?? ''), Buffer.from(decodePem(root.pem, 'CERTIFICATE')[0] ?? ''), 'the upstream\'s root is the bundle')
  t.ok(new X509Certificate(chain ?? new Uint8Array()).subjectAltName?.includes('/blue'))

  const shown = await fetch(`http://127.0.0.1:${port}/metrics`).then(answer => answer.text())
  t.match(shown, /^spire_agent_acme_asked\{label="blue",host="[^"]+"\} \d+$/m, 'and what it measured is among the agent\'s metrics')

  // The plugin dies: no smaller identity, and it comes back.
  const { pid } = lines().find(({ msg }) => msg === 'plugin is running') as { pid: number } & Record<string, unknown>
  process.kill(pid, 'SIGKILL')
  await eventually('its death to be seen', () => lines().some(({ how }) => how === 'ended by SIGKILL'))
  await eventually('the workload to be served again', async () => {
    try {
      for await (const { svids } of workload.client(workloadService).fetchX509SVID({}, { metadata })) {
        return svids.length === 1
      }
    } catch {}
    return false
  }, 60_000)
  const starts = () => lines().filter(({ msg }) => msg === 'plugin is running').length
  await eventually('its second start to be told', () => starts() >= 2)
  t.equal(starts(), 2)
  t.equal(await agent.stop(), 0, 'the agent ends')
  t.equal(lines().filter(({ msg }) => msg === 'plugin has ended').length, 1, 'and its plugins before it')
  t.equal(await server.stop(), 0)
  t.notMatch(server.log() + agent.log(), 'BEGIN PRIVATE KEY', 'plugin_data is in no log')
})
