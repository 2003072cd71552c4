import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { readJournal } from '../../src/takeover/journal.ts'
import { eventually } from '../fakes/eventually.ts'
import { RunningProcess, startServer } from '../fakes/processes.ts'
import { openRpcGate, type Passage } from '../fakes/rpc-gate.ts'
import { patienceMs } from './operator.ts'
import { entry, Side } from './side.ts'

t.setTimeout(600_000)

await t.test('SIGKILL at each kind of call that changes something, before it is done and after it, and started again', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'assay-takeover-'))
  await using scope = new AsyncDisposableStack()
  scope.defer(() => rm(folder, { recursive: true, force: true }))
  const [spire, server] = [scope.use(await startServer()), scope.use(await startServer())]
  const [there, ours] = [scope.use(new Side(spire)), scope.use(new Side(server))]
  await there.fill()
  await ours.add(entry('own'))
  const own = await ours.contents()

  let victim: RunningProcess | undefined
  let isDoomed = false
  let deaths = 0
  scope.defer(async () => { await victim?.kill9() })
  /** Each method of each server is lost once, then done once without an answer; both kill who called it. */
  const seen = new Map<string, number>()
  const gateOf = async (name: string, target: string) => {
    const path = join(folder, `${name}.sock`)
    const decide = (method: string): Passage => {
      if (/^(?:Get|List|Watch)/.test(method)) return 'through'
      const key = `${name} ${method}`
      const times = seen.get(key) ?? 0
      seen.set(key, times + 1)
      isDoomed = times < 2
      return (['lost', 'unanswered'] as const)[times] ?? 'through'
    }
    const kill = async () => {
      await victim?.kill9()
      deaths++
      isDoomed = false
    }
    scope.use(await openRpcGate({ path, target }, decide, kill))
    return path
  }
  const file = join(folder, 'takeover.json')
  const words = [
    '-spireSocketPath', await gateOf('spire', spire.adminSocket), '-socketPath', await gateOf('ours', server.adminSocket), '-state', file
  ]
  /** One process after the other, until one is done. */
  const untilDone = async (words: readonly string[], isDone: () => Promise<boolean>) => {
    for (;;) {
      const process = victim?.running === true ? victim : new RunningProcess(words)
      victim = process
      let done = false
      await eventually(() => `${words[1]} to die or to be done: ${process.log}`, async () => {
        done = await isDone()
        return done || !process.running
      }, patienceMs)
      if (done || await isDone()) return
      t.equal(process.exitCode, null, `killed, rather than ended: ${process.log}`)
    }
  }
  const isEqual = async () => {
    if (isDoomed || victim?.running !== true) return false
    const [wanted, found] = [await there.contents(), await ours.contents()]
    const sequences = await Promise.all([there, ours].map(async side => (await side.bundles.getBundle({})).sequenceNumber))
    return JSON.stringify(found) === JSON.stringify([...wanted, ...own].toSorted()) && (await ours.partners()).length === 2 &&
      JSON.stringify(await there.authorityNames()) === JSON.stringify(await ours.authorityNames()) &&
      (sequences[1] as bigint) > (sequences[0] as bigint) && !isDoomed
  }
  const run = ['takeover', 'run', ...words, '-interval', '100ms']

  victim = new RunningProcess(['takeover', 'start', ...words, '-settle', '0'])
  await victim.exited()
  t.equal((await readJournal(file))?.phase, 'publishing', `killed at its first call: ${victim.log}`)
  await untilDone(run, isEqual)
  t.ok(deaths >= 12, `${deaths} processes were killed before both sides were equal`)
  await there.change()
  await untilDone(run, isEqual)
  await victim?.stop()
  victim = undefined
  t.equal((await readJournal(file))?.phase, 'open')

  const wanted = await there.contents()
  await untilDone(['takeover', 'rollback', ...words], async () => victim?.exitCode === 0)
  t.same(await there.contents(), wanted, 'SPIRE keeps all')
  t.same([await ours.contents(), await ours.partners()], [own, []], 'nothing of it is left here, and what was here stays')
  t.equal((await readJournal(file))?.phase, 'rolled_back')
  t.equal(deaths, 2 * seen.size, `${deaths} were killed: at ${[...seen.keys()].join(', ')}`)
  t.ok(seen.size >= 10)
})
