import { createHash, X509Certificate } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { firstOf } from '../../src/runtime/first-of.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { workloadService } from '../../src/wire/generated/workload.ts'
import { eventually } from '../fakes/eventually.ts'
import { agentOf } from '../fakes/known-agent.ts'
import { MachineCa } from '../fakes/machine-ca.ts'
import { startAgent, startServer } from '../fakes/processes.ts'
import { startSpireAgent, startSpireServer, withoutSpireAgent, withoutSpireServer } from '../fakes/spire.ts'

t.setTimeout(300_000)

void t.test('x509pop: an agent of each with a server of the other', { skip: withoutSpireServer || withoutSpireAgent }, async t => {
  const folder = t.testdir()
  const root = await MachineCa.create('CN=Company CA')
  const site = await root.intermediate('CN=Site CA')
  const put = async (name: string, text: string) => {
    await writeFile(join(folder, name), text)
    return join(folder, name)
  }
  const server = { ca_bundle_path: await put('roots.pem', root.pem) }
  await using ours = await startServer({ blocks: { plugins: { NodeAttestor: { x509pop: { plugin_data: server } } } } })
  await using theirs = await startSpireServer({ nodeAttestors: { x509pop: server } })
  for (const key of ['P-256', 'P-384', 'RSA'] as const) {
    const machine = await site.certify({ name: 'CN=host-1', key, sans: [{ type: 'url', value: 'x509pop://example.org/rack/7' }] })
    const agent = {
      certificate_path: await put(`${key}.pem`, machine.certificate), private_key_path: await put(`${key}.key`, machine.key),
      intermediates_path: await put(`${key}.site.pem`, site.pem)
    }
    const path = `/x509pop/${createHash('sha1').update(new X509Certificate(machine.certificate).raw).digest('hex')}`
    await using ourAgent = await startAgent({ server: theirs, plugins: { NodeAttestor: { x509pop: { plugin_data: agent } } } })
    await using theirAgent = await startSpireAgent(ours, { name: 'x509pop', data: agent, path })
    t.ok(ourAgent && theirAgent)
    const known = await agentOf(theirs.adminSocket, `/spire/agent${path}`)
    t.match(known, { type: 'x509pop', reattests: true, selectors: Array }, `${key}: SPIRE's server knows our agent`)
    t.strictSame(await agentOf(ours.adminSocket, `/spire/agent${path}`), known, `${key}: ours knows SPIRE's by the same selectors`)
  }
})

void t.test('x509pop: agents named by a template', { skip: withoutSpireServer || withoutSpireAgent }, async t => {
  const folder = t.testdir()
  const ca = await MachineCa.create('CN=Company CA')
  const machine = await ca.certify({
    name: 'OU=rack-7,O=Company,CN=host-1.example.org', sans: [{ type: 'url', value: 'x509pop://example.org/rack/7/b' }]
  })
  const put = async (name: string, text: string) => {
    await writeFile(join(folder, name), text)
    return join(folder, name)
  }
  const server = {
    ca_bundle_path: await put('roots.pem', ca.pem),
    agent_path_template: '/{{ .PluginName }}/{{ index .Subject.OrganizationalUnit 0 | upper }}' +
      '/{{ .Subject.CommonName | splitList "." | first }}/{{ .URISanSelectors.rack }}/{{ .SerialNumberHex | trunc 4 }}' +
      '{{ if hasPrefix "host" .Subject.CommonName }}/h{{ end }}'
  }
  const agent = { certificate_path: await put('a.pem', machine.certificate), private_key_path: await put('a.key', machine.key) }
  const serial = new X509Certificate(machine.certificate).serialNumber.toLowerCase()
  const path = `/x509pop/RACK-7/host-1/7/b/${serial.slice(0, 4)}/h`
  await using ours = await startServer({ blocks: { plugins: { NodeAttestor: { x509pop: { plugin_data: server } } } } })
  await using theirs = await startSpireServer({ nodeAttestors: { x509pop: server } })
  await using ourAgent = await startAgent({ server: theirs, plugins: { NodeAttestor: { x509pop: { plugin_data: agent } } } })
  await using theirAgent = await startSpireAgent(ours, { name: 'x509pop', data: agent, path })
  t.ok(ourAgent && theirAgent)
  t.match(await agentOf(theirs.adminSocket, `/spire/agent${path}`), { type: 'x509pop' }, 'by SPIRE\'s server')
  t.match(await agentOf(ours.adminSocket, `/spire/agent${path}`), { type: 'x509pop' }, 'and by ours')
})

void t.test('x509pop: by a workload\'s SVID, of agent and server each', { skip: withoutSpireServer || withoutSpireAgent }, async t => {
  const server = { mode: 'spiffe' }
  await using ours = await startServer({ blocks: { plugins: { NodeAttestor: { x509pop: { plugin_data: server } } } } })
  await using theirs = await startSpireServer({ nodeAttestors: { x509pop: server } })
  await using ourFirst = await startAgent({ server: ours })
  await using theirFirst = await startSpireAgent(theirs)
  const exchange = async (at: { readonly adminSocket: string }, first: { readonly id: string, readonly socket: string }) => {
    await using admin = openUnixChannel(at.adminSocket)
    await admin.client(entryService).batchCreateEntry({ entries: [{
      spiffeId: { trustDomain: 'example.org', path: '/spire-exchange/node-7' },
      parentId: { trustDomain: 'example.org', path: first.id.slice('spiffe://example.org'.length) },
      selectors: [{ type: 'unix', value: `uid:${process.getuid?.()}` }]
    }] })
    await using workload = openUnixChannel(first.socket)
    const svids = () => firstOf(workload.client(workloadService).fetchX509SVID({}, { metadata: { 'workload.spiffe.io': 'true' } }))
    await eventually('the entry to arrive', async () => (await svids().catch(() => undefined)) !== undefined, 60_000)
    return { spiffe_endpoint_socket: `unix://${first.socket}` }
  }
  const path = '/x509pop/node-7'
  const ourData = await exchange(theirs, theirFirst)
  await using ourAgent = await startAgent({ server: theirs, plugins: { NodeAttestor: { x509pop: { plugin_data: ourData } } } })
  await using theirAgent = await startSpireAgent(ours, { name: 'x509pop', data: await exchange(ours, ourFirst), path })
  t.ok(ourAgent && theirAgent)
  const known = { type: 'x509pop', reattests: true }
  t.match(await agentOf(theirs.adminSocket, `/spire/agent${path}`), known, 'ours, by SPIRE\'s agent, at SPIRE\'s server')
  t.match(await agentOf(ours.adminSocket, `/spire/agent${path}`), known, 'and SPIRE\'s, by ours, at ours')
})
