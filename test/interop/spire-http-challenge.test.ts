import t from 'tap'
import { freePort } from '../fakes/free-port.ts'
import { agentOf } from '../fakes/known-agent.ts'
import { startAgent, startServer } from '../fakes/processes.ts'
import { startSpireAgent, startSpireServer, withoutSpireAgent, withoutSpireServer } from '../fakes/spire.ts'

t.setTimeout(300_000)

void t.test('http_challenge: an agent of each with a server of the other', { skip: withoutSpireServer || withoutSpireAgent }, async t => {
  const server = { allowed_dns_patterns: [String.raw`^127\.0\.0\.1$`] }
  const path = '/http_challenge/127.0.0.1'
  await using ours = await startServer({ blocks: { plugins: { NodeAttestor: { http_challenge: { plugin_data: server } } } } })
  await using theirs = await startSpireServer({ nodeAttestors: { http_challenge: server } })
  const agent = { hostname: '127.0.0.1', agentname: 'rack-7' }
  await using ourAgent = await startAgent({ server: theirs, plugins: { NodeAttestor: { http_challenge: { plugin_data: agent } } } })
  await using theirAgent = await startSpireAgent(ours, { name: 'http_challenge', data: { ...agent, port: await freePort() }, path })
  t.ok(ourAgent && theirAgent)
  const known = { type: 'http_challenge', reattests: false, selectors: ['http_challenge:hostname:127.0.0.1'] }
  t.strictSame(await agentOf(theirs.adminSocket, `/spire/agent${path}`), known, 'SPIRE\'s server knows our agent')
  t.strictSame(await agentOf(ours.adminSocket, `/spire/agent${path}`), known, 'ours knows SPIRE\'s by the same selectors')
  const again = startSpireAgent(ours, { name: 'http_challenge', data: agent, path })
  await t.rejects(again, /does not serve:[^]*already been used to attest an agent/, 'not twice')
})
