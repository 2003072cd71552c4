import t from 'tap'
import { KubeRefusal } from '../../src/controller/kubernetes/kube-client.ts'
import { Lease, readLeaseNote, type Tenure } from '../../src/controller/kubernetes/lease.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { ManualClock } from '../fakes/clock.ts'
import { LeaseStore } from './lease-store.ts'

const options = { namespace: 'default', name: 'c', durationMs: 15_000, renewDeadlineMs: 10_000, retryMs: 2_000 }

/** A controller that wants to lead; a clock of its own may be paused or wrong. */
class Candidate {
  readonly #stop = new AbortController()
  readonly #running: Promise<void>
  tenure: Tenure | undefined
  isLeading = false

  constructor (identity: string, store: Pick<LeaseStore, 'get' | 'create' | 'replace'>, clock: ManualClock) {
    const lease = new Lease({ ...options, identity }, { client: store, clock, log: silentLogger })
    this.#running = lease.run(async (tenure, signal) => {
      this.tenure = tenure
      this.isLeading = true
      await new Promise<void>(resolve => signal.addEventListener('abort', () => resolve(), { once: true }))
      this.isLeading = false
    }, this.#stop.signal).catch(() => {})
  }

  async stop (): Promise<void> {
    this.#stop.abort()
    await this.#running
  }
}

function mayWrite ({ tenure }: Candidate): boolean {
  try {
    tenure?.check()
    return tenure !== undefined
  } catch {
    return false
  }
}

void t.test('one leads', async t => {
  const [store, clock] = [new LeaseStore(), new ManualClock()]
  const [a, b] = [new Candidate('a', store, clock), new Candidate('b', store, clock)]
  await clock.advance(0)
  t.equal([a, b].filter(({ isLeading }) => isLeading).length, 1)
  const [first, second] = a.isLeading ? [a, b] : [b, a]
  await clock.advance(60_000)
  t.strictSame([first.isLeading, second.isLeading, mayWrite(first)], [true, false, true], 'as long as it renews')
  t.match(store.object?.spec, { leaseDurationSeconds: 15, renewTime: /^2026-.*\.\d{6}Z$/, leaseTransitions: 0 })
  await first.stop()
  t.equal(store.holder, '', 'it gives the Lease back')
  await clock.advance(4_000)
  t.ok(second.isLeading, 'and the other one need not wait until it ends')
  t.equal(store.object?.spec?.['leaseTransitions'], 1)
  await second.stop()
})

void t.test('a leader that cannot renew stops before another one begins', async t => {
  const store = new LeaseStore()
  const [clock, other] = [new ManualClock(), new ManualClock('2031-01-01T00:00:00Z')]
  const leader = new Candidate('a', store, clock)
  await clock.advance(0)
  const heir = new Candidate('b', store, other)
  const both = async (ms: number) => { for (let left = ms; left > 0; left -= 500) { await clock.advance(500); await other.advance(500) } }
  await both(10_000)
  t.strictSame([leader.isLeading, heir.isLeading], [true, false], 'whatever time the other one has')
  store.isAway = true
  await both(9_000)
  t.ok(mayWrite(leader), 'it may still')
  await both(4_000)
  t.notOk(mayWrite(leader) || leader.isLeading, 'not any more')
  store.isAway = false
  await both(20_000)
  t.equal([leader, heir].filter(({ isLeading }) => isLeading).length, 1, 'one leads again')
  await Promise.all([leader.stop(), heir.stop()])
})

void t.test('a leader that was paused finds out before it writes', async t => {
  const store = new LeaseStore()
  const [clock, other] = [new ManualClock(), new ManualClock()]
  const leader = new Candidate('a', store, clock)
  await clock.advance(0)
  const heir = new Candidate('b', store, other)
  await other.advance(0)
  // Its process stands still; the other's time goes on.
  await other.advance(17_000)
  t.ok(heir.isLeading)
  await clock.advance(2_000)
  t.notOk(mayWrite(leader) || leader.isLeading, 'its first renewal is refused, since another one wrote')
  t.equal(store.holder, 'b')
  await Promise.all([leader.stop(), heir.stop()])
})

void t.test('who is answered late does not lead early', async t => {
  const [store, clock] = [new LeaseStore(), new ManualClock()]
  /** A way to the store on which each call waits, or fails. */
  const by = (before: () => Promise<void>): Pick<LeaseStore, 'get' | 'create' | 'replace'> => ({
    get: async () => { await before(); return await store.get() },
    create: async (path, body) => { await before(); return await store.create(path, body) },
    replace: async (path, body) => { await before(); return await store.replace(path, body) }
  })
  let isCut = false
  const leader = new Candidate('a', by(async () => { if (isCut) throw new KubeRefusal(500, 'it', 'is away') }), clock)
  await clock.advance(0)
  const answered = Promise.withResolvers<void>()
  const heir = new Candidate('b', by(() => answered.promise), clock)
  await clock.advance(8_000)
  answered.resolve()
  await clock.advance(0)
  isCut = true
  await clock.advance(9_000)
  t.strictSame([mayWrite(leader), heir.isLeading], [true, false], 'what it was told of was written long after it had asked')
  await clock.advance(10_000)
  t.strictSame([mayWrite(leader), heir.isLeading], [false, true])
  await Promise.all([leader.stop(), heir.stop()])
})

void t.test('what leaders write down', async t => {
  const [store, clock] = [new LeaseStore(), new ManualClock()]
  const first = new Candidate('a', store, clock)
  await clock.advance(0)
  t.equal(first.tenure?.note(), '')
  await first.tenure?.setNote('x')
  await clock.advance(10_000)
  t.equal(first.tenure?.note(), 'x')
  t.equal(await readLeaseNote(store, options, new AbortController().signal), 'x')
  await first.stop()
  await t.rejects(async () => await first.tenure?.setNote('late'), { code: 'lease_lost' })
  const second = new Candidate('b', store, clock)
  await clock.advance(0)
  t.equal(second.tenure?.note(), 'x', 'is there for those after them')
  await second.stop()
})
