import t from 'tap'
import { firstOf } from '../../src/runtime/first-of.ts'
import { agentService } from '../../src/wire/generated/server-agent.ts'
import { workloadService } from '../../src/wire/generated/workload.ts'
import { securityHeader, startTestAgent } from '../fakes/agent.ts'
import { eventually } from '../fakes/eventually.ts'
import { freePort } from '../fakes/free-port.ts'
import { startTestServer } from '../fakes/server.ts'

void t.test('calls of server and agent are at the Prometheus endpoint under SPIRE\'s names (spire-surface §10.1)', async t => {
  const [serverPort, agentPort] = [await freePort(), await freePort()]
  await using server = await startTestServer({ config: { prometheus: { host: '127.0.0.1', port: serverPort } } })
  await using agent = await startTestAgent(server, {
    config: { prometheus: { host: '127.0.0.1', port: agentPort }, allowUnauthenticatedVerifiers: true }
  })
  const shows = (port: number, line: string) => eventually(line, async () =>
    await fetch(`http://127.0.0.1:${port}/metrics`).then(async answer => (await answer.text()).split('\n').includes(line), () => false))
  await server.admin.client(agentService).countAgents({})
  await shows(serverPort, 'spire_server_rpc_agent_v1_agent_count_agents{status="OK"} 1')
  await shows(serverPort, 'spire_server_rpc_agent_v1_agent_attest_agent{status="OK"} 1')
  await shows(serverPort, 'spire_server_rpc_agent_v1_agent_attest_agent_elapsed_time_count{status="OK"} 1')
  await eventually('the agent has synchronised', async () => {
    const bundles = await firstOf(agent.workload.client(workloadService).fetchX509Bundles({}, securityHeader)).catch(() => undefined)
    return bundles !== undefined
  })
  await t.rejects(firstOf(agent.workload.client(workloadService).fetchX509SVID({}, securityHeader)))
  await shows(agentPort, 'spire_agent_rpc_workload_api_fetch_x509svid{status="PermissionDenied"} 1')
})
