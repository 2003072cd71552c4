import t from 'tap'
import { agreedGroup, pqAgreements } from '../fakes/agreed-group.ts'
import { agentOf } from '../fakes/known-agent.ts'
import { startAgent, startServer } from '../fakes/processes.ts'
import { startSpireAgent, startSpireServer, withoutSpireAgent, withoutSpireServer } from '../fakes/spire.ts'

t.setTimeout(300_000)

const config = { experimental: { require_pq_kem: true } }

void t.test('require_pq_kem: agents of each with a server of the other', { skip: withoutSpireServer || withoutSpireAgent }, async t => {
  await using ours = await startServer({ config })
  await using theirs = await startSpireServer({ config })
  await using theirAgent = await startSpireAgent(ours, undefined, { config })
  await using ourAgent = await startAgent({ server: theirs, config })
  t.match(await agentOf(ours.adminSocket, new URL(theirAgent.id).pathname), { type: 'join_token' }, 'SPIRE\'s agent joined our server')
  t.match(await agentOf(theirs.adminSocket, new URL(ourAgent.id).pathname), { type: 'join_token' }, 'ours joined SPIRE\'s')
  // SPIRE's server 1.15.3 has the key, but holds no client of its API to it.
  for (const [what, offer, answer] of pqAgreements) t.match(await agreedGroup(ours.address, offer), answer, `our server, a client ${what}`)
})
