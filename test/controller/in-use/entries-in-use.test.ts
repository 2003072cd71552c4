import t, { type Test } from 'tap'
import { EntriesInUse, type OwnEntry } from '../../../src/controller/in-use/entries-in-use.ts'
import type { AgentProgress, Progress } from '../../../src/controller/server/server-convergence.ts'
import { UseTally } from '../../../src/controller/status/use-saying.ts'
import { silentLogger } from '../../../src/runtime/logger.ts'
import type { SpiffeId } from '../../../src/spiffe/spiffe-id.ts'
import { ManualClock, settle } from '../../fakes/clock.ts'

const { signal } = new AbortController()
const agentOf = (node: string) => `spiffe://example.org/spire/agent/k8s_psat/demo/${node}` as SpiffeId
const alias = (name: string) => `spiffe://example.org/${name}` as SpiffeId

/** A server whose log and agents a test writes, and a controller's entries. */
class Rig {
  readonly clock = new ManualClock()
  readonly entries: OwnEntry[] = []
  readonly agents = new Map<SpiffeId, AgentProgress>()
  /** Whom an entry below a parent that is no agent concerns. */
  readonly below = new Map<string, readonly SpiffeId[]>()
  /** What was asked about; '' stands for all agents. */
  readonly asked: string[] = []
  readonly outcomes: string[] = []
  readonly lags: number[] = []
  /** Instead of answering. */
  before: (() => void) | undefined
  supported = true
  epoch = 'e'
  head = 0
  readonly uses = new EntriesInUse({
    entries: () => this.entries,
    convergence: { ask: async entryId => this.#answer(entryId) },
    clock: this.clock,
    log: silentLogger,
    metrics: { used: seconds => this.lags.push(seconds), looked: outcome => this.outcomes.push(outcome) },
    onLook () {}
  })

  /** An entry is on the server, which is one more change. */
  add (key: string, parentId: SpiffeId): void {
    this.entries.push({ key, id: `id-${key}`, parentId })
    this.write(key)
  }

  write (...keys: string[]): void {
    this.head++
    this.uses.written(new Set(keys))
  }

  agent (node: string, number: number | undefined, rest: Partial<AgentProgress> = {}): void {
    const id = agentOf(node)
    const proved = number === undefined ? undefined : { epoch: this.epoch, number }
    this.agents.set(id, { id, live: true, unserved: [], proved, ...rest })
  }

  use (key: string): string {
    const entry = this.entries.find(entry => entry.key === key)
    return entry === undefined ? 'unknown' : this.uses.of(entry)
  }

  saying () {
    const tally = new UseTally()
    for (const entry of this.entries) tally.add(entry, this.uses)
    const { status, reason, message } = tally.saying(this.uses)
    return [status, reason, message]
  }

  #answer (entryId: string | undefined): Progress | undefined {
    this.asked.push(entryId ?? '')
    this.before?.()
    if (!this.supported) return undefined
    const wanted = entryId === undefined ? [...this.agents.keys()] : this.below.get(entryId) ?? []
    return {
      head: { epoch: this.epoch, number: this.head },
      agents: wanted.flatMap(id => this.agents.get(id) ?? [])
    }
  }
}

/** While it leads. */
function run (t: Test, { uses }: Rig): void {
  const stop = new AbortController()
  t.teardown(() => stop.abort())
  uses.run(stop.signal).catch(() => {})
  uses.written(new Set())
}

void t.test('an entry is in use once its agent has acknowledged what was written before', async t => {
  const rig = new Rig()
  t.strictSame(rig.saying(), ['Unknown', 'NotAskedYet', 'the server was not asked yet'])
  rig.add('a', agentOf('one'))
  rig.agent('one', 0)
  t.equal(await rig.uses.look(signal), 'open')
  t.strictSame([rig.use('a'), rig.lags], ['waiting', []])
  t.strictSame(rig.saying(), ['False', 'Waiting', `0 of 1 entries are in use; 1 not acknowledged by ${agentOf('one')}`])
  await rig.clock.advance(2_000)
  rig.agent('one', 1)
  t.equal(await rig.uses.look(signal), 'settled')
  t.strictSame([rig.use('a'), rig.lags], ['used', [2]])
  t.strictSame(rig.saying(), ['True', 'Served', '1 of 1 entries are in use'])
  rig.head = 100
  await rig.uses.look(signal)
  t.equal(rig.use('a'), 'used', 'what happens to others does not matter')
  rig.write('a')
  t.equal(rig.use('a'), 'waiting', 'one that was changed is waited for anew')
  t.equal(await rig.uses.look(signal), 'open')
  rig.agent('one', 101)
  await rig.uses.look(signal)
  t.equal(rig.use('a'), 'used')
  t.strictSame(rig.asked, Array(5).fill(''), 'each look is one question')
})

void t.test('why one is not in use', async t => {
  const rig = new Rig()
  t.strictSame([await rig.uses.look(signal), rig.saying()], ['settled', ['False', 'NoEntries', 'it declares no entry']])
  for (const node of ['gone', 'strange', 'unable']) rig.add(node, agentOf(node))
  rig.agent('gone', 9, { live: false })
  rig.agent('unable', 9, { unserved: ['id-unable'] })
  await rig.uses.look(signal)
  t.strictSame(['gone', 'strange', 'unable'].map(key => rig.use(key)), ['no_agent', 'no_agent', 'no_svid'])
  t.strictSame(rig.saying(), ['False', 'NoAgent',
    `0 of 3 entries are in use; 2 without a live agent (${agentOf('gone')}); 1 without an SVID at ${agentOf('unable')}`])
  rig.agent('gone', undefined)
  await rig.uses.look(signal)
  t.equal(rig.use('gone'), 'used', 'what was proved once is not taken back by a poll that proves nothing')
  rig.agents.delete(agentOf('gone'))
  await rig.uses.look(signal)
  rig.agent('gone', undefined)
  await rig.uses.look(signal)
  t.equal(rig.use('gone'), 'waiting', 'but it is by who was not there meanwhile')
  const tally = new UseTally()
  tally.add(undefined, rig.uses)
  t.match(tally.saying(rig.uses), { reason: 'NotSet', message: '0 of 1 entries are in use; 1 not on the server' })
})

void t.test('an answer says nothing of what was written while it came', async t => {
  const rig = new Rig()
  rig.add('a', agentOf('one'))
  rig.agent('one', 1)
  rig.before = () => {
    rig.before = undefined
    rig.uses.written(new Set(['a']))
  }
  t.equal(await rig.uses.look(signal), 'open')
  t.equal(rig.use('a'), 'waiting')
  t.equal(await rig.uses.look(signal), 'settled')
  t.equal(rig.use('a'), 'used')
})

void t.test('a restored database begins another log', async t => {
  const rig = new Rig()
  rig.add('a', agentOf('one'))
  rig.agent('one', 1)
  await rig.uses.look(signal)
  t.equal(rig.use('a'), 'used')
  rig.epoch = 'after'
  await rig.uses.look(signal)
  t.equal(rig.use('a'), 'waiting', 'numbers of two logs are not compared')
  rig.agent('one', 1)
  await rig.uses.look(signal)
  t.equal(rig.use('a'), 'used')
})

void t.test('a parent that stands for several agents is asked about by one of its entries', async t => {
  const rig = new Rig()
  const nodes = ['one', 'two', 'three'].map(agentOf)
  for (let n = 0; n < 100; n++) {
    rig.add(`e${n}`, alias('nodes'))
    rig.below.set(`id-e${n}`, nodes)
  }
  rig.agent('one', 100)
  rig.agent('two', 99)
  rig.agent('three', 0, { live: false })
  await rig.uses.look(signal)
  t.strictSame(rig.asked, ['', 'id-e0'])
  t.match(rig.saying(), ['False', 'Waiting', `0 of 100 entries are in use; 100 not acknowledged by ${agentOf('two')}`])
  rig.agent('two', 100)
  await rig.uses.look(signal)
  t.match(rig.saying(), ['True', 'Served', '100 of 100 entries are in use'], 'who is away is not waited for')

  for (let n = 0; n < 20; n++) rig.add(`other${n}`, alias(`nodes-${n}`))
  rig.asked.length = 0
  await rig.uses.look(signal)
  await rig.uses.look(signal)
  t.equal(rig.asked.length, 2 * 17, 'a look asks of sixteen parents')
  t.equal(new Set(rig.asked).size, 1 + 21, 'and the next one of the others')
})

void t.test('questions are few, whatever is written', async t => {
  const rig = new Rig()
  for (const node of ['one', 'two']) rig.agent(node, 0)
  run(t, rig)
  await rig.clock.advance(0)
  t.equal(rig.asked.length, 1, 'once what is on the server was read')
  for (let n = 0; n < 3_000; n++) {
    rig.add(`pod-${n}`, agentOf(n % 2 === 0 ? 'one' : 'two'))
    for (const node of ['one', 'two']) rig.agent(node, rig.head)
    await rig.clock.advance(20)
  }
  t.ok(rig.asked.length <= 1 + 60 / 1.25, `${rig.asked.length} questions in a minute about 3000 entries`)
  await rig.clock.advance(3_000)
  t.match(rig.saying(), ['True', 'Served', '3000 of 3000 entries are in use'])
  t.equal(rig.lags.length, 3_000)
  t.ok(Math.max(...rig.lags) <= 3, 'each was found within a look or two')
  rig.asked.length = 0
  await rig.clock.advance(300_000)
  t.ok(rig.asked.length >= 9 && rig.asked.length <= 10, `${rig.asked.length} looks in five minutes of peace`)

  rig.add('late', agentOf('one'))
  rig.asked.length = 0
  await rig.clock.advance(60_000)
  t.ok(rig.asked.length > 5 && rig.asked.length < 12, `${rig.asked.length} looks in a minute for one that is not taken`)
  t.match(rig.saying(), ['False', 'Waiting'])
})

void t.test('a server that keeps no such record is left alone', async t => {
  const rig = new Rig()
  rig.supported = false
  run(t, rig)
  for (let n = 0; n < 200; n++) {
    rig.add(`pod-${n}`, agentOf('one'))
    await rig.clock.advance(1_000)
  }
  t.strictSame(rig.outcomes, ['unsupported'])
  t.match(rig.saying(), ['Unknown', 'ServerCannotTell', /assay\.server\.v1\.Cluster/])
  rig.supported = true
  rig.agent('one', 200)
  await rig.clock.advance(200_000)
  t.match(rig.saying(), ['True', 'Served'], 'until one takes its place that does')
})

void t.test('a server that is away', async t => {
  const rig = new Rig()
  rig.add('a', agentOf('one'))
  rig.agent('one', 1)
  run(t, rig)
  await rig.clock.advance(0)
  t.match(rig.saying(), ['True'])
  rig.before = () => { throw new Error('nobody is there') }
  await rig.clock.advance(29_000)
  rig.write('a')
  await rig.clock.advance(1_900)
  t.match(rig.saying(), ['False', 'Waiting'], 'what was known is told for a while')
  await rig.clock.advance(60_000)
  t.match(rig.saying(), ['Unknown', 'ServerAway'])
  t.ok(rig.outcomes.filter(outcome => outcome === 'failed').length < 15, 'it is asked ever more seldom')
  rig.before = undefined
  rig.agent('one', rig.head)
  await rig.clock.advance(11_000)
  await settle()
  t.match(rig.saying(), ['True', 'Served'])
})
