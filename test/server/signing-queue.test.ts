import fc from 'fast-check'
import t from 'tap'
import { createMetrics } from '../../src/runtime/metrics.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { SigningOrder } from '../../src/server/signing-order.ts'
import { SigningQueue, type SigningKind, type SigningLimits } from '../../src/server/signing-queue.ts'
import { ManualClock, settle } from '../fakes/clock.ts'

const never = new AbortController().signal

interface Ask {
  readonly kind?: SigningKind
  readonly count?: number
  readonly endsInSeconds?: number
  readonly keyType?: 'ec-p256' | 'rsa-2048' | 'rsa-4096'
  readonly signal?: AbortSignal
}

/** A queue whose signing stands still until `open`, and what was signed for whom, slice by slice. */
function startQueue (limits: Partial<SigningLimits> = {}, msPerSignature = 0) {
  const clock = new ManualClock()
  const metrics = createMetrics({ prefix: 'assay_server' })
  const queue = new SigningQueue({
    clock, metrics, random: () => 0.5, limits: { maxUnits: 1000, maxUnitsPerCaller: 1000, maxWaitMs: 10_000, ...limits }
  })
  const slices: { readonly caller: string, readonly count: number }[] = []
  const { promise: gate, resolve: open } = Promise.withResolvers<void>()
  const ask = (caller: string, options: Ask = {}) => {
    const { kind = 'svid', count = 1, endsInSeconds = 1800, keyType = 'ec-p256', signal = never } = options
    const work = { kind, caller, endsBy: new Date(clock.now().getTime() + endsInSeconds * 1000), keyType }
    return queue.sign(work, Array.from({ length: count }, (_, index) => index), async slice => {
      slices.push({ caller, count: slice.length })
      await gate
      if (msPerSignature > 0) await clock.advance(msPerSignature * slice.length)
      return slice.map(index => `${caller} ${index}`)
    }, signal)
  }
  return { clock, metrics, queue, slices, open, ask }
}

void t.test('what matters most and what ends soonest goes first', async t => {
  const { ask, open, slices } = startQueue()
  const asked = [
    ask('under way'),
    ask('svid, an hour', { endsInSeconds: 3600 }),
    ask('svid, a minute', { endsInSeconds: 60 }),
    ask('new node', { kind: 'attestation', endsInSeconds: 0 }),
    ask('agent, an hour', { kind: 'agent', endsInSeconds: 3600 }),
    ask('agent, a minute', { kind: 'agent', endsInSeconds: 60 }),
    ask('svid, an hour, later', { endsInSeconds: 3600 })
  ]
  open()
  await Promise.all(asked)
  t.strictSame(slices.map(({ caller }) => caller), [
    'under way', 'agent, a minute', 'agent, an hour', 'new node', 'svid, a minute', 'svid, an hour', 'svid, an hour, later'
  ])
})

void t.test('each gets what it asked for, in its order', async t => {
  const { ask, open, slices } = startQueue()
  open()
  const [many, one, none] = await Promise.all([ask('a', { count: 100 }), ask('b'), ask('c', { count: 0 })])
  t.strictSame(many, Array.from({ length: 100 }, (_, index) => `a ${index}`))
  t.strictSame(one, ['b 0'])
  t.strictSame(none, [])
  t.ok(slices.every(({ count }) => count <= 32), 'no slice holds up the event loop for long')
})

void t.test('one agent with a thousand entries does not make others wait', async t => {
  const { ask, open, slices } = startQueue({ maxUnits: 10_000 })
  const large = ask('large', { count: 1000, endsInSeconds: 1 })
  const small = Array.from({ length: 50 }, (_, index) => ask(`small ${index}`, { endsInSeconds: 3600 }))
  open()
  await Promise.all([large, ...small])
  const before = slices.slice(0, slices.findLastIndex(({ caller }) => caller !== 'large'))
  const ofLarge = before.filter(({ caller }) => caller === 'large').reduce((sum, { count }) => sum + count, 0)
  t.ok(ofLarge <= 96, `${ofLarge} of the large one came before the last of the small ones, though all of its own end sooner`)
  t.equal(slices.filter(({ caller }) => caller === 'large').length, 32)
})

void t.test('renewing in a loop buys nothing', async t => {
  const { ask, open, slices } = startQueue({ maxUnits: 10_000 })
  const renewals = Array.from({ length: 900 }, () => ask('greedy', { kind: 'agent', endsInSeconds: 0 }))
  const others = Array.from({ length: 30 }, (_, index) => ask(`other ${index}`))
  open()
  await Promise.all([...renewals, ...others])
  const lastOther = slices.findLastIndex(({ caller }) => caller !== 'greedy')
  t.ok(lastOther < 130, `the last of the others was served after ${lastOther} signatures`)
})

void t.test('what waits is bounded, by cost', async t => {
  const { ask, open, metrics, queue } = startQueue({ maxUnits: 100 })
  const asked = [ask('a', { count: 60 })]
  await t.rejects(ask('b', { count: 50 }), { code: 'server_overloaded', row: { status: 'RESOURCE_EXHAUSTED', retry: true } })
  await t.rejects(ask('b', { count: 7, keyType: 'rsa-2048' }), { code: 'server_overloaded' }, '42 units')
  asked.push(ask('b', { count: 40 }))
  await t.rejects(ask('c'), { code: 'server_overloaded' })
  t.equal(queue.units, 100)
  t.match(await metrics.expose(), /assay_server_signing_shed_total\{kind="svid",reason="full"\} 3/)
  t.match(await metrics.expose(), /assay_server_signing_queue_callers 2/)
  open()
  await Promise.all(asked)
  t.equal(queue.units, 0)
  t.strictSame(await ask('c'), ['c 0'])
  t.match(await metrics.expose(), /assay_server_signing_queue_units 0\n[^]*signing_wait_seconds_count\{kind="svid"\} 3/)
})

void t.test('a batch larger than the bound is served when there is room, else never would be', async t => {
  const { ask, open } = startQueue({ maxUnits: 100, maxUnitsPerCaller: 50 })
  open()
  t.equal((await ask('a', { count: 200, keyType: 'rsa-4096' })).length, 200)
})

void t.test('one caller cannot fill the queue', async t => {
  const { ask, open } = startQueue({ maxUnitsPerCaller: 50 })
  const asked = [ask('a', { count: 50 })]
  await t.rejects(ask('a'), { code: 'server_overloaded', message: /of this caller/ })
  asked.push(ask('b'))
  open()
  await Promise.all(asked)
})

void t.test('who would wait too long is told when to ask again', async t => {
  const { ask, open } = startQueue({ maxWaitMs: 5000 }, 50)
  open()
  // Measured: 50 ms each.
  await ask('first', { count: 320 })
  const outcomes = await Promise.allSettled(Array.from({ length: 15 }, (_, index) => ask(`agent ${index}`, { count: 20 })))
  const served = outcomes.filter(({ status }) => status === 'fulfilled').length
  t.ok(served >= 5 && served <= 8, `5 s are enough for five at the least; ${served} were let in`)
  for (const outcome of outcomes.slice(served)) {
    const { code, retryAfterMs = 0 } = (outcome as PromiseRejectedResult).reason as SpiffeError
    t.equal(code, 'server_overloaded')
    t.ok(retryAfterMs > 5000 && retryAfterMs <= 30_000, `${retryAfterMs} ms`)
  }
})

void t.test('who gives up frees the place', async t => {
  const { ask, open, queue, slices } = startQueue({ maxUnits: 100 })
  const first = ask('a', { count: 20 })
  const gone = new AbortController()
  const waiting = ask('b', { count: 80, signal: gone.signal })
  await t.rejects(ask('c'), { code: 'server_overloaded' })
  gone.abort(new Error('gone'))
  await t.rejects(waiting, { message: 'gone' })
  t.equal(queue.units, 20)
  const next = ask('c')
  await t.rejects(ask('d', { signal: AbortSignal.abort(new Error('gone before')) }), { message: 'gone before' })
  open()
  await Promise.all([first, next])
  t.strictSame(slices.map(({ caller }) => caller), ['a', 'c'], 'nothing was signed for who is gone')
})

void t.test('who gives up while it is signed gets no further slice', async t => {
  const { ask, open, queue, slices } = startQueue()
  const gone = new AbortController()
  const under = ask('a', { count: 100, signal: gone.signal })
  gone.abort(new Error('gone'))
  await t.rejects(under, { message: 'gone' })
  open()
  await ask('b')
  t.strictSame(slices, [{ caller: 'a', count: 32 }, { caller: 'b', count: 1 }])
  await settle()
  t.equal(queue.units, 0)
})

void t.test('a failure is its caller\'s alone', async t => {
  const { queue, ask, open } = startQueue()
  open()
  const work = { kind: 'svid' as const, caller: 'a', endsBy: new Date(), keyType: 'ec-p256' as const }
  const failing = queue.sign(work, [1, 2], async () => { throw new SpiffeError('csr_malformed', 'no') }, never)
  const other = ask('b')
  await t.rejects(failing, { code: 'csr_malformed' })
  t.strictSame(await other, ['b 0'])
  await settle()
  t.equal(queue.units, 0)
})

void t.test('between slices the event loop turns', async t => {
  const { ask, open } = startQueue({ maxUnits: 10_000 })
  open()
  let turns = 0
  const over = new AbortController()
  const turning = (async () => {
    for (; !over.signal.aborted; turns++) await new Promise(resolve => setImmediate(resolve))
  })()
  await ask('a', { count: 1000 })
  over.abort()
  await turning
  t.ok(turns >= 30, `${turns} turns`)
})

void t.test('keys of the thread pool are used side by side', async t => {
  const { ask, open, slices } = startQueue()
  const asked = Array.from({ length: 8 }, (_, index) => ask(`agent ${index}`, { keyType: 'rsa-2048' }))
  await settle()
  t.equal(slices.length, 4, 'as many as the pool has threads')
  open()
  await Promise.all(asked)
})

void t.test('the order is that of a sorted list, whoever leaves', t => {
  const jobs = fc.array(fc.record({
    rank: fc.integer({ min: 0, max: 2 }), endsBy: fc.integer({ min: 0, max: 20 }), leaves: fc.boolean()
  }), { maxLength: 200 })
  fc.assert(fc.property(jobs, drawn => {
    const order = new SigningOrder<{ caller: string, rank: number, endsBy: number, leaves: boolean, sliceCost: () => number }>()
    const all = drawn.map((job, index) => ({ ...job, caller: String(index), sliceCost: () => 1 }))
    for (const job of all) order.add(job)
    for (const job of all) if (job.leaves) order.remove(job)
    const expected = all.filter(({ leaves }) => !leaves).toSorted((a, b) => a.rank - b.rank || a.endsBy - b.endsBy)
    const taken = []
    for (let job = order.take(); job !== undefined; job = order.take()) taken.push(job)
    t.strictSame(taken.map(({ caller }) => caller), expected.map(({ caller }) => caller))
  }))
  t.end()
})
