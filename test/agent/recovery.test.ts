import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { systemClock, type Clock } from '../../src/runtime/clock.ts'
import { firstOf } from '../../src/runtime/first-of.ts'
import { agentService } from '../../src/wire/generated/server-agent.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { workloadService } from '../../src/wire/generated/workload.ts'
import { createJoinToken } from '../fakes/agent-client.ts'
import { securityHeader, startTestAgent, type TestAgent } from '../fakes/agent.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { ManualClock } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'
import { openRelay } from '../fakes/relay.ts'
import { startTestServer, type TestServer } from '../fakes/server.ts'
import { SkippingClock } from '../fakes/skipping-clock.ts'

const id = (path: string) => ({ trustDomain: 'example.org', path })

async function register (server: TestServer, agent: TestAgent, path: string): Promise<void> {
  await server.admin.client(entryService).batchCreateEntry({
    entries: [{ spiffeId: id(path), parentId: id(agent.path), selectors: [{ type: 'unix', value: `uid:${process.getuid?.()}` }] }]
  })
}

/** The first identity of this process, or the status of the refusal. */
async function ask (agent: TestAgent): Promise<string | undefined> {
  try {
    const state = await firstOf(agent.workload.client(workloadService).fetchX509SVID({}, { ...securityHeader, timeoutMs: 30_000 }))
    return state?.svids[0]?.spiffeId
  } catch (error) {
    return (error as { status: string }).status
  }
}

const serves = async (agent: TestAgent, path: string) =>
  await eventually(`${path} is served`, async () => await ask(agent) === `spiffe://example.org${path}`, 60_000)

/** An agent that has served `/web`, stopped in good order. */
async function servedBefore (server: TestServer, folder: string, clock: Clock = systemClock): Promise<{ path: string }> {
  await using agent = await startTestAgent(server, { folder, clock })
  await register(server, agent, '/web')
  await serves(agent, '/web')
  return { path: agent.path }
}

async function newFolder (): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'assay-agent-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  return folder
}

await t.test('banned or evicted while it was away: nothing is served after contact, and nothing is left behind', async t => {
  const { log, lines } = capturedLog()
  await using server = await startTestServer({ log })
  for (const [act, code] of [['banAgent', 'agent_banned'], ['deleteAgent', 'agent_not_attested']] as const) {
    const folder = await newFolder()
    const { path } = await servedBefore(server, folder)
    await using relay = await openRelay(server.ready.port)
    const clock = new ManualClock(new Date())
    await using agent = await startTestAgent(server, { folder, clock, config: { serverAddresses: [`127.0.0.1:${relay.port}`] } })
    const stream = agent.workload.client(workloadService).fetchX509SVID({}, securityHeader)[Symbol.asyncIterator]()
    t.equal((await stream.next()).value?.svids[0]?.spiffeId, 'spiffe://example.org/web', `${act}: cut off, it serves`)
    await server.admin.client(agentService)[act]({ id: id(path) })

    const end = stream.next().then(() => 'OK', (error: { status: string }) => error.status)
    relay.open()
    await eventually('the server to refuse it', async () => {
      await clock.advance(100)
      return lines.some(line => line.code === code)
    })
    // The clock stands still from then on: nothing waits for a poll, or pauses before another try.
    t.equal(await end, 'PERMISSION_DENIED', `${act}: the workload is told that its identity is gone (WLAPI-17)`)
    const ended = agent.ended.then(() => undefined, (error: unknown) => error)
    let outcome: unknown
    void ended.then(error => { outcome = error })
    await eventually('the end', async () => {
      await clock.advance(100)
      return outcome !== undefined
    })
    t.match(outcome, { code })
    for (const name of ['agent-data.json', 'agent-cache']) await t.rejects(stat(join(folder, name)), { code: 'ENOENT' }, `${act}: ${name}`)
  }
})

await t.test('an SVID that expired while no server was there', async t => {
  const clock = new SkippingClock(0)
  await using server = await startTestServer({ clock, config: { agentTtlSeconds: 300 } })
  for (const canReattest of [true, false]) {
    const folder = await newFolder()
    await servedBefore(server, folder, clock)
    const path = join(folder, 'agent-data.json')
    const state = JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>
    await writeFile(path, JSON.stringify({ ...state, can_reattest: canReattest }), { mode: 0o600 })
    await using relay = await openRelay(server.ready.port)
    const token = canReattest ? await createJoinToken(server) : 'used'
    const { log, lines } = capturedLog()
    await using agent = await startTestAgent(server, {
      folder, token, clock, log, config: { serverAddresses: [`127.0.0.1:${relay.port}`] }
    })
    t.equal(await ask(agent), 'spiffe://example.org/web', 'what was kept is served')
    clock.skip(300_000)
    if (!canReattest) {
      await t.rejects(agent.ended, { code: 'agent_expired' }, 'it ends when it can do nothing more by itself')
      t.ok(await stat(path), 'and leaves what it was, so that the next start can say so')
      await t.rejects(stat(join(folder, 'agent-cache')), { code: 'ENOENT' })
      const next = startTestAgent(server, { folder, clock, token: 'used' })
      await t.rejects(next, { code: 'agent_expired', message: /expired at 20.*attest again/ })
      await using joined = await startTestAgent(server, { folder, clock })
      await register(server, joined, '/joined')
      await serves(joined, '/joined')
      continue
    }
    await eventually('its SVID has expired', () => lines.splice(0).some(({ code }) => code === 'agent_expired'), 60_000)
    relay.open()
    await register(server, { ...agent, path: `/spire/agent/join_token/${token}` }, '/again')
    await serves(agent, '/again')
    t.pass('where the attestor can attest again, the agent comes back alone')
  }
})

await t.test('a server whose CA the agent does not know is named as what it is, and what was kept is served on', async t => {
  const folder = await newFolder()
  {
    await using server = await startTestServer()
    await servedBefore(server, folder)
  }
  await using stranger = await startTestServer()
  const { log, lines } = capturedLog()
  await using agent = await startTestAgent(stranger, { folder, log, token: 'none' })
  await eventually('it says so', () => lines.some(({ code }) => code === 'server_untrusted'), 60_000)
  t.match(lines.find(({ code }) => code === 'server_untrusted'), { level: 'error', next: /operations\.md/, reason: /bundle known here/ })
  t.equal(await ask(agent), 'spiffe://example.org/web')
})
