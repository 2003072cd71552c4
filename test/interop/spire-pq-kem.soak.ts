import t from 'tap'
import { eventually } from '../fakes/eventually.ts'
import { agentOf } from '../fakes/known-agent.ts'
import { startAgent, startServer } from '../fakes/processes.ts'
import { startSpireAgent, startSpireServer, withoutSpireAgent, withoutSpireServer } from '../fakes/spire.ts'

t.setTimeout(300_000)

const config = { experimental: { require_pq_kem: true } }
/** Go's own switch: as a program from before ML-KEM. */
const environment = { GODEBUG: 'tlsmlkem=0' }

void t.test('require_pq_kem: no agent joins a peer without ML-KEM', { skip: withoutSpireServer || withoutSpireAgent }, async t => {
  await using ours = await startServer({ config })
  await using theirAgent = await startSpireAgent(ours, undefined, { environment, until: 'handshake failure' })
  t.equal(await agentOf(ours.adminSocket, new URL(theirAgent.id).pathname), undefined, 'SPIRE\'s did not join our server')

  await using theirs = await startSpireServer({ environment })
  const until = 'joining failed for now; trying again'
  await using joining = await startAgent({ server: theirs, config, until })
  const message = /require_pq_kem is set, and the server does not take TLS 1\.3 with ML-KEM/
  const isToldWhy = () => joining.process.lines().some(({ msg, err }) => msg === until && message.test((err as Error).message))
  await eventually(() => `ours does not join SPIRE's: ${joining.process.log}`, isToldWhy, 60_000)
  t.notOk(joining.process.lines().some(({ msg }) => msg === 'agent has its identity'), 'ours did not join SPIRE\'s')
  await using without = await startAgent({ server: theirs })
  t.match(await agentOf(theirs.adminSocket, new URL(without.id).pathname), { type: 'join_token' }, 'which takes one that demands nothing')
})
