import t from 'tap'
import { agentService } from '../../src/wire/generated/server-agent.ts'
import { attest } from '../fakes/agent-client.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { ManualClock } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'
import { startTestServer } from '../fakes/server.ts'

const minute = 60_000

void t.test('agents whose SVIDs ended long ago go, if that is wanted (prune_attested_nodes_expired_for)', async t => {
  const clock = new ManualClock(new Date())
  const { log, lines } = capturedLog()
  await using server = await startTestServer({
    clock, log, config: { agentTtlSeconds: 60, pruneAgents: { expiredForMs: 6 * minute, includeTofu: true, limit: undefined } }
  })
  const count = async () => (await server.admin.client(agentService).countAgents({})).count
  await attest(server)
  // Chores look every five minutes.
  for (let passed = 0; passed < 6; passed++) await clock.advance(minute)
  t.equal(await count(), 1, 'an agent may be late')
  await eventually('it is gone', async () => {
    await clock.advance(minute)
    return await count() === 0
  }, 60_000)
  t.match(lines.find(({ msg }) => /ended long ago/.test(String(msg))), { agents: [/^spiffe:\/\/example\.org\/spire\/agent\/join_token\//] })
})
