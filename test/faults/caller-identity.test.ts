import { realpathSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { noChosenPids, runChoosingPids } from '../fakes/own-pids.ts'
import { startAgent, startServer } from '../fakes/processes.ts'
import { Administrator } from '../interop/administrator.ts'
import { startCaller } from './caller.ts'
import { Workload } from './workload.ts'

/** What the impostor becomes: a program that has an entry. */
const entitled = realpathSync('/bin/sleep')

t.test('callers that are not what they were (real agent, unix:path)', async t => {
  await using server = await startServer()
  const plugins = { WorkloadAttestor: { unix: { plugin_data: { discover_workload_path: true } } } }
  await using agent = await startAgent({ server, plugins })
  const runsNode = [{ type: 'unix', value: `path:${realpathSync(process.execPath)}` }]
  await using admin = new Administrator(server)
  await admin.register('spiffe://example.org/node', agent.id, { selectors: runsNode })
  await admin.register('spiffe://example.org/entitled', agent.id, { selectors: [{ type: 'unix', value: `path:${entitled}` }] })

  // Until the agent knows the entries, it refuses honest callers too.
  await using workload = new Workload(agent.socket)
  await workload.granted('spiffe://example.org/node')

  await t.test('an honest caller', async t => {
    await using caller = startCaller(agent.socket, 'ask')
    t.match(await caller.answer(), { granted: ['spiffe://example.org/node'] }, 'gets the identity of the program it runs')
  })

  await t.test('connect, exec the entitled program, let another process ask', async t => {
    for (let round = 0; round < 5; round++) {
      await using caller = startCaller(agent.socket, 'exec', entitled)
      t.match(await caller.answer(), { refused: 7, code: 'caller_gone' }, 'is refused')
    }
  })

  await t.test('exec while a stream is open', async t => {
    await using caller = startCaller(agent.socket, 'exec-later', entitled)
    t.match(await caller.answer(), { granted: ['spiffe://example.org/node'] })
    t.match(await caller.answer(), { executed: entitled })
    const extra = await admin.register('spiffe://example.org/more', agent.id, { selectors: runsNode })
    const answer = await caller.answer()
    t.match(answer, { refused: 7, code: 'caller_gone' }, 'WLAPI-39 is refused, as the caller is checked again before each push')
    await admin.unregister(extra)
  })

  await t.test('connect, end, let another process ask', async t => {
    await using caller = startCaller(agent.socket, 'exit')
    t.match(await caller.answer(), { refused: 7, code: 'caller_gone' }, 'is refused')
  })

  await t.test('connect, end, let another process have the PID', { skip: noChosenPids() }, async t => {
    const { end, output } = await runChoosingPids(t, join(import.meta.dirname, 'pid-reuse.ts'), entitled)
    t.strictSame(end, [0, null], 'the scenario ran to its end')
    const { gone, impostor, answer } = JSON.parse(output) as { gone: number, impostor: number, answer: unknown }
    t.equal(impostor, gone, 'the PID is in use again, by the entitled program')
    t.match(answer, { refused: 7, code: 'caller_gone' }, 'WLE-12 is refused')
  })
})
