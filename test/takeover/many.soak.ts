import { readFile, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { contentOf } from '../../src/takeover/diff-entries.ts'
import { readJournal } from '../../src/takeover/journal.ts'
import type { Entry, EntryInit } from '../../src/wire/generated/types.ts'
import { eventually } from '../fakes/eventually.ts'
import { RunningProcess, startServer } from '../fakes/processes.ts'
import { openRpcGate } from '../fakes/rpc-gate.ts'
import { Administrator, idMessage } from '../interop/administrator.ts'

t.setTimeout(900_000)
const count = 10_000
const patienceMs = 300_000
/** Far above what it needs (about 200 MB), far below what a copy for each entry and step would. */
const mostMemoryMb = 600

/** Over a hundred nodes, each with an alias of its own; every tenth entry has all fields. */
function entry (n: number): EntryInit {
  const node = `spiffe://example.org/spire/agent/x509pop/${String(n % 100).padStart(40, '0')}`
  return {
    id: `entry-${n}`, spiffeId: idMessage(`spiffe://example.org/ns/team-${n % 50}/sa/workload-${n}`), parentId: idMessage(node),
    selectors: [{ type: 'unix', value: `uid:${n}` }, { type: 'unix', value: 'user:service' }],
    ...n % 10 === 0 ? { dnsNames: [`workload-${n}.test`], x509SvidTtl: 600, jwtSvidTtl: 60, hint: `h-${n}`, expiresAt: 4_000_000_000 } : {}
  }
}

/** A command of the takeover in a process of its own, with the most memory it has had. */
class Step {
  readonly process: RunningProcess
  readonly #startedAt = performance.now()
  #memoryMb = 0
  readonly #timer: NodeJS.Timeout

  constructor (words: readonly string[]) {
    this.process = new RunningProcess(words)
    this.#timer = setInterval(() => {
      void readFile(`/proc/${this.process.pid}/status`, 'utf8').then(text => {
        this.#memoryMb = Math.max(this.#memoryMb, Number(/VmHWM:\s+(\d+) kB/.exec(text)?.[1] ?? 0) / 1024)
      }, () => {})
    }, 20)
  }

  async kill9 (): Promise<void> {
    clearInterval(this.#timer)
    await this.process.kill9()
  }

  async end (): Promise<{ code: number | null, seconds: number, memoryMb: number, log: string }> {
    await this.process.exited()
    clearInterval(this.#timer)
    const { exitCode: code, log } = this.process
    return { code, log, seconds: (performance.now() - this.#startedAt) / 1_000, memoryMb: this.#memoryMb }
  }
}

await t.test('10,000 entries are planned, copied and taken back, killed in the middle of each', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'assay-takeover-'))
  await using scope = new AsyncDisposableStack()
  scope.defer(() => rm(folder, { recursive: true, force: true }))
  const spire = scope.use(await startServer())
  const ours = scope.use(await startServer())
  const there = scope.use(new Administrator(spire))
  const here = scope.use(new Administrator(ours))
  for (let start = 0; start < count; start += 1_000) {
    const { results } = await there.entries.batchCreateEntry({
      entries: Array.from({ length: 1_000 }, (_, n) => entry(start + n)), outputMask: {}
    })
    if (results.some(({ status }) => status?.code !== 0)) throw new Error('an entry was refused')
  }
  await here.register('spiffe://example.org/own', 'spiffe://example.org/elsewhere')

  const file = join(folder, 'takeover.json')
  const stepBy = (socket: string, ...words: readonly string[]) =>
    new Step(['takeover', ...words, '-spireSocketPath', spire.adminSocket, '-socketPath', socket, '-state', file])
  const step = (...words: readonly string[]) => stepBy(ours.adminSocket, ...words)
  const entriesHere = async () => (await here.entries.countEntries({})).count
  /** When some of its calls of this method are done, however fast they are: the third never arrives. */
  const killed = async (method: string, ...words: readonly string[]) => {
    const path = join(folder, `${method}.sock`)
    let calls = 0
    let isHeld = false
    await using _ = await openRpcGate({ path, target: ours.adminSocket }, name => name === method && ++calls === 3 ? 'lost' : 'through',
      async () => { isHeld = true })
    const command = stepBy(path, ...words)
    scope.defer(() => command.kill9())
    await eventually(() => `some of the entries: ${command.process.log}`, () => isHeld || !command.process.running, patienceMs)
    await command.kill9()
    return await entriesHere()
  }
  const whole = async (command: Step, what: string) => {
    scope.defer(() => command.kill9())
    const { code, seconds, memoryMb, log } = await command.end()
    t.equal(code, 0, `${what}: ${log}`)
    t.ok(memoryMb > 0 && memoryMb < mostMemoryMb, `${what}: ${seconds.toFixed(1)} s, ${Math.round(memoryMb)} MB`)
    t.comment(`${what}: ${seconds.toFixed(1)} s, ${Math.round(memoryMb)} MB`)
  }
  const allOf = async (side: Administrator) => {
    const all: Entry[] = []
    for (let pageToken = ''; ;) {
      const { entries, nextPageToken } = await side.entries.listEntries({ pageSize: 1_000, pageToken })
      all.push(...entries)
      if (nextPageToken === '') return new Map(all.map(entry => [entry.id, contentOf(entry)]))
      pageToken = nextPageToken
    }
  }

  await whole(step('plan'), 'plan of 10,000 to copy')
  const copied = await killed('BatchCreateEntry', 'start', '-settle', '0')
  t.ok(copied > 1 && copied <= count, `killed with ${copied - 1} copied`)
  t.equal((await readJournal(file))?.entries.length, count, 'the journal knew them all')
  await whole(step('start'), `start of what was left of ${count}`)
  const [wanted, got] = [await allOf(there), await allOf(here)]
  t.equal(got.size, count + 1)
  t.same([...wanted].filter(([id, content]) => got.get(id) !== content), [], 'every field of every entry')
  await whole(step('status'), 'status with 10,000 the same')

  const left = await killed('BatchDeleteEntry', 'rollback')
  t.ok(left > 1 && left <= count, `killed with ${left - 1} left`)
  await whole(step('rollback'), 'roll-back of the rest')
  t.equal(await entriesHere(), 1, 'what was made here stays')
  t.equal((await there.entries.countEntries({})).count, count, 'SPIRE keeps all')
  t.equal((await readJournal(file))?.phase, 'rolled_back')

  await rm(file)
  await whole(step('start', '-settle', '0'), 'start of all 10,000 at once')
  t.equal(await entriesHere(), count + 1)
  await whole(step('rollback'), 'roll-back of all 10,000')
  t.equal(await entriesHere(), 1)
})
