import t from 'tap'
import { ServerConvergence } from '../../../src/controller/server/server-convergence.ts'
import { openUnixChannel } from '../../../src/rpc/channel.ts'
import { startTestAgent } from '../../fakes/agent.ts'
import { eventually } from '../../fakes/eventually.ts'
import { startTestServer } from '../../fakes/server.ts'
import { startSpireServer, withoutSpireServer } from '../../fakes/spire.ts'
import { Administrator } from '../../interop/administrator.ts'

const patienceMs = 60_000
const { signal } = new AbortController()

void t.test('a server of ours says what its agents have taken over', async t => {
  await using server = await startTestServer()
  await using admin = new Administrator({ adminSocket: server.config.socketPath })
  const convergence = new ServerConvergence(server.admin)
  t.match(await convergence.ask(undefined, signal), { head: { epoch: /./ }, agents: [] })
  await using agent = await startTestAgent(server)
  const id = `spiffe://example.org${agent.path}`
  const entryId = await admin.register('spiffe://example.org/web', id)
  const taken = async (entry?: string) => {
    const { head, agents: [first] } = await convergence.ask(entry, signal) ?? { agents: [] }
    const { proved } = first ?? {}
    return first?.id === id && first.live && proved?.epoch === head?.epoch && proved?.number === head?.number
  }
  await eventually('the agent has the entry', () => taken(), patienceMs)
  await eventually('it is one that the entry concerns', () => taken(entryId), patienceMs)
  const elsewhere = await admin.register('spiffe://example.org/other', 'spiffe://example.org/spire/agent/join_token/other')
  t.same((await convergence.ask(elsewhere, signal))?.agents, [], 'another entry concerns nobody')
})

void t.test('SPIRE\'s server does not know', { skip: withoutSpireServer }, async t => {
  await using spire = await startSpireServer()
  await using channel = openUnixChannel(spire.adminSocket)
  t.equal(await new ServerConvergence(channel).ask(undefined, signal), undefined)
})
