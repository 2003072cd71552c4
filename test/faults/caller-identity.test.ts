import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { realpathSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import t from 'tap'
import { startAgent, startServer } from '../fakes/processes.ts'
import { Administrator } from '../interop/administrator.ts'
import { Workload } from './workload.ts'

const accomplice = join(import.meta.dirname, 'accomplice.ts')
const lastPid = '/proc/sys/kernel/ns_last_pid'
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
    await using caller = start(agent.socket, 'ask')
    t.match(await caller.answer(), { granted: ['spiffe://example.org/node'] }, 'gets the identity of the program it runs')
  })

  await t.test('connect, exec the entitled program, let another process ask', async t => {
    for (let round = 0; round < 5; round++) {
      await using caller = start(agent.socket, 'exec', entitled)
      t.match(await caller.answer(), { refused: 7, code: 'caller_gone' }, 'is refused')
    }
  })

  await t.test('exec while a stream is open', async t => {
    await using caller = start(agent.socket, 'exec-later', entitled)
    t.match(await caller.answer(), { granted: ['spiffe://example.org/node'] })
    t.match(await caller.answer(), { executed: entitled })
    const extra = await admin.register('spiffe://example.org/more', agent.id, { selectors: runsNode })
    const answer = await caller.answer()
    t.match(answer, { refused: 7, code: 'caller_gone' }, 'WLAPI-39 is refused, as the caller is checked again before each push')
    await admin.unregister(extra)
  })

  await t.test('connect, end, let another process ask', async t => {
    await using caller = start(agent.socket, 'exit')
    t.match(await caller.answer(), { refused: 7, code: 'caller_gone' }, 'is refused')
  })

  const skip = canChoosePids() ? false : `cannot choose PIDs: ${lastPid} is not writable here`
  await t.test('the PID of a caller that ended, in use by the entitled program', { skip }, async t => {
    await using caller = start(agent.socket, 'exit-and-wait')
    const { gone } = await caller.answer() as { gone: number }
    await caller.ended()
    await using impostor = await spawnWithPid(gone)
    t.equal(impostor.pid, gone, 'the PID is in use again')
    caller.go()
    t.match(await caller.answer(), { refused: 7, code: 'caller_gone' }, 'is refused')
  })
})

interface Started extends AsyncDisposable {
  /** The next line it, or the process it left behind, prints. */
  answer (): Promise<unknown>
  go (): void
  ended (): Promise<void>
}

function start (socket: string, ...words: string[]): Started {
  const child = spawn(process.execPath, [accomplice, socket, ...words], {
    stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, NODE_NO_WARNINGS: '1' }
  })
  const exit = once(child, 'exit')
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  let heir: number | undefined
  return {
    async answer () {
      const { value, done } = await lines.next()
      if (done === true) throw new Error('the caller ended without an answer')
      const line = JSON.parse(value) as { heir?: number }
      if (line.heir !== undefined) heir = line.heir
      return line
    },
    go () { process.kill(heir as number, 'SIGUSR2') },
    async ended () { await exit },
    async [Symbol.asyncDispose] () {
      end(child)
      if (heir !== undefined) endPid(heir)
      await exit
    }
  }
}

function end (child: ChildProcess): void { if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL') }

function endPid (pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch { /* it has ended */ }
}

function canChoosePids (): boolean {
  try {
    writeFileSync(lastPid, '1000')
    return true
  } catch {
    return false
  }
}

/** Starts the entitled program again and again until it has this PID. */
async function spawnWithPid (pid: number) {
  for (let attempt = 0; attempt < 200; attempt++) {
    writeFileSync(lastPid, String(pid - 1))
    const child = spawn(entitled, ['60'], { stdio: 'ignore' })
    const exit = once(child, 'exit')
    const stop = async () => { end(child); await exit }
    if (child.pid === pid) return { pid, [Symbol.asyncDispose]: stop }
    await stop()
  }
  throw new Error(`PID ${pid} could not be had in 200 attempts`)
}
