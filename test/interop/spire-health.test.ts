import t from 'tap'
import { startTestAgent } from '../fakes/agent.ts'
import { eventually } from '../fakes/eventually.ts'
import { freePort } from '../fakes/free-port.ts'
import { startTestServer } from '../fakes/server.ts'
import { startSpireAgent, startSpireServer, withoutSpireAgent, withoutSpireServer } from '../fakes/spire.ts'

t.setTimeout(180_000)

void t.test('health checks answer as SPIRE\'s server and agent do', { skip: withoutSpireServer || withoutSpireAgent }, async t => {
  const [theirs, theirAgents, ours, ourAgents] = [await freePort(), await freePort(), await freePort(), await freePort()]
  const listen = (port: number) => ({ healthChecks: { host: '127.0.0.1', port, livePath: '/live', readyPath: '/ready' } })
  await using spire = await startSpireServer({ healthPort: theirs })
  await using spireAgent = await startSpireAgent(spire, undefined, { healthPort: theirAgents })
  await using server = await startTestServer({ config: listen(ours) })
  await using agent = await startTestAgent(server, { config: listen(ourAgents) })
  t.ok(spireAgent.id)
  t.ok(agent.path)
  for (const [there, here, who] of [[theirs, ours, 'server'], [theirAgents, ourAgents, 'agent']] as const) {
    for (const path of ['/ready', '/live']) {
      const expected = await answerOf(there, path)
      t.same(await answerOf(here, path), expected, `${who}: ${path} ${JSON.stringify(expected)}`)
      t.ok(Object.keys(expected.body).length > 0)
    }
  }
})

/** Once it is well: SPIRE looks after a second for the first time. */
async function answerOf (port: number, path: string) {
  const found: { answer?: { status: number, type: string | null, body: object } } = {}
  await eventually(`${port}${path} is well`, async () => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`).catch(() => undefined)
    if (response?.status !== 200) return false
    found.answer = { status: response.status, type: response.headers.get('content-type'), body: await response.json() as object }
    return Object.values(found.answer.body).every(details => details !== null)
  }, 60_000)
  if (found.answer === undefined) throw new Error('no answer')
  return found.answer
}
