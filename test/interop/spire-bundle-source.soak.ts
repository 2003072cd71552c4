import t from 'tap'
import { agentOf } from '../fakes/known-agent.ts'
import { startAgent, startServer } from '../fakes/processes.ts'
import { startSpireAgent, startSpireServer, withoutSpireAgent, withoutSpireServer } from '../fakes/spire.ts'

t.setTimeout(300_000)

const source = { allow_unauthenticated_verifiers: true }
const by = (socket: string) => ({ trust_bundle_path: undefined, trust_bundle_spiffe_workload_api: `unix://${socket}` })

void t.test('trust_bundle_spiffe_workload_api: an agent of each joins by the Workload API of the other\'s', {
  skip: withoutSpireServer || withoutSpireAgent
}, async t => {
  await using theirs = await startSpireServer()
  await using theirSource = await startSpireAgent(theirs, undefined, { config: source })
  await using ourAgent = await startAgent({ server: theirs, config: by(theirSource.socket) })
  t.match(await agentOf(theirs.adminSocket, new URL(ourAgent.id).pathname), { type: 'join_token' }, 'ours by that of SPIRE\'s')

  await using ours = await startServer()
  await using ourSource = await startAgent({ server: ours, config: source })
  await using theirAgent = await startSpireAgent(ours, undefined, { config: by(ourSource.socket) })
  t.match(await agentOf(ours.adminSocket, new URL(theirAgent.id).pathname), { type: 'join_token' }, 'SPIRE\'s by that of ours')
})
