import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import t from 'tap'
import { agentOf } from '../fakes/known-agent.ts'
import { startAgent, startServer } from '../fakes/processes.ts'
import { startSpireAgent, startSpireServer, withoutSpireAgent, withoutSpireServer } from '../fakes/spire.ts'
import { SshCa, withoutSshKeygen } from '../fakes/ssh-keygen.ts'

t.setTimeout(300_000)

const withoutSsh = withoutSpireServer || withoutSpireAgent || withoutSshKeygen

void t.test('sshpop: an agent of each with a server of the other', { skip: withoutSsh }, async t => {
  const ca = await SshCa.create(t.testdir())
  const server = { cert_authorities: [ca.publicKey], canonical_domain: 'example.org' }
  const template = { ...server, agent_path_template: '/sshpop/{{ .Hostname }}/{{ .KeyId | nospace }}-{{ index .ValidPrincipals 1 }}' }
  await using ours = await startServer({ blocks: { plugins: { NodeAttestor: { sshpop: { plugin_data: server } } } } })
  await using theirs = await startSpireServer({ nodeAttestors: { sshpop: server } })
  for (const kind of ['ed25519', 'rsa'] as const) {
    const agent = await ca.certify(kind)
    const certificate = Buffer.from((await readFile(agent.host_cert_path, 'utf8')).split(' ')[1] as string, 'base64')
    const path = `/sshpop/${createHash('sha256').update(certificate).digest('base64url')}`
    await using ourAgent = await startAgent({ server: theirs, plugins: { NodeAttestor: { sshpop: { plugin_data: agent } } } })
    await using theirAgent = await startSpireAgent(ours, { name: 'sshpop', data: agent, path })
    t.ok(ourAgent && theirAgent)
    const known = { type: 'sshpop', reattests: true, selectors: [] }
    t.strictSame(await agentOf(theirs.adminSocket, `/spire/agent${path}`), known, `${kind}: SPIRE's server knows our agent`)
    t.strictSame(await agentOf(ours.adminSocket, `/spire/agent${path}`), known, `${kind}: ours knows SPIRE's`)
  }
  const agent = await ca.certify('ecdsa', { principals: 'host-1.example.org,alias' })
  const path = '/sshpop/host-1/host1-alias'
  await using named = await startServer({ blocks: { plugins: { NodeAttestor: { sshpop: { plugin_data: template } } } } })
  await using alsoNamed = await startSpireServer({ nodeAttestors: { sshpop: template } })
  await using ourAgent = await startAgent({ server: alsoNamed, plugins: { NodeAttestor: { sshpop: { plugin_data: agent } } } })
  await using theirAgent = await startSpireAgent(named, { name: 'sshpop', data: agent, path })
  t.ok(ourAgent && theirAgent)
  for (const { adminSocket } of [named, alsoNamed]) {
    t.match(await agentOf(adminSocket, `/spire/agent${path}`), { type: 'sshpop' }, 'by a template')
  }
})
