import t from 'tap'
import { RpcError } from '../../src/rpc/rpc-error.ts'
import type { RpcStatusName } from '../../src/rpc/rpc-error.ts'
import type { X509SVIDResponse } from '../../src/wire/generated/workload.ts'
import { watchStream, type WatchEvent as AnyEvent } from '../../src/workloadapi/watch-stream.ts'
import { ManualClock } from '../fakes/clock.ts'

type WatchEvent = AnyEvent<X509SVIDResponse>

const state: X509SVIDResponse = { svids: [], crl: [], federatedBundles: {} }

type Script = (clock: ManualClock) => AsyncIterable<X509SVIDResponse>

function failing (status: RpcStatusName): Script {
  // eslint-disable-next-line require-yield
  return async function * () { throw new RpcError(status, 'not now', { method: '/SpiffeWorkloadAPI/FetchX509SVID' }) }
}

/** Gives a state, and goes on for a while. */
function serving (ms: number, then?: RpcStatusName): Script {
  return async function * (clock) {
    yield state
    await clock.advance(ms)
    if (then !== undefined) yield * failing(then)(clock)
  }
}

/** What a watch makes of one stream after the other; ends at the first that is not there. */
async function watch (scripts: readonly Script[], random = () => 0.5) {
  const clock = new ManualClock()
  const stop = new AbortController()
  const left = [...scripts]
  const events: WatchEvent[] = []
  const open = () => {
    const script = left.shift()
    if (script === undefined) throw new Error('no more streams')
    return script(clock)
  }
  const watching = watchStream(open, { clock, random, signal: stop.signal })
  try {
    for (;;) {
      const last = events.at(-1)
      const [{ value }] = await Promise.all([watching.next(), last?.kind === 'lost' ? clock.advance(last.retryInMs) : undefined])
      events.push(value)
    }
  } catch (error) {
    return { events, error: error as Error }
  }
}

const pauses = (events: readonly WatchEvent[]) => events.flatMap(event => event.kind === 'lost' ? [event.retryInMs] : [])

void t.test('a stream that served is reopened at once', async t => {
  const { events, error } = await watch([serving(60_000), serving(2_000, 'UNAVAILABLE'), serving(0)])
  t.match(events, [
    { kind: 'state', response: state },
    { kind: 'lost', error: undefined, retryInMs: 0 },
    { kind: 'state' },
    { kind: 'lost', error: { status: 'UNAVAILABLE' }, retryInMs: 0 },
    { kind: 'state' },
    { kind: 'lost', retryInMs: 1_000 }
  ], 'WLAPI-06 whichever side closed it; but not one after the other without a pause')
  t.equal(error.message, 'no more streams')
})

void t.test('one that fails soon is tried again after growing pauses', async t => {
  const denied = failing('PERMISSION_DENIED')
  const { events } = await watch([
    denied, failing('UNAVAILABLE'), denied, denied, denied, denied, denied, serving(5_000), denied
  ])
  t.same(pauses(events), [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 0, 1_000], 'WLAPI-39 doubled each time, up to a limit')
  const sooner = await watch([denied, denied], () => 0)
  const later = await watch([denied, denied], () => 1)
  t.same([pauses(sooner.events), pauses(later.events)], [[750, 1_500], [1_250, 2_500]], 'with jitter: many workloads do not come at once')
})

void t.test('what trying again cannot change ends the watch', async t => {
  for (const [rule, status] of [['WLE-15', 'INVALID_ARGUMENT'], ['WLE-16', 'UNIMPLEMENTED']] as const) {
    const { events, error } = await watch([serving(5_000, 'UNAVAILABLE'), failing(status), serving(0)])
    t.match(error, { status }, `${rule} no retry after ${status}`)
    t.same(events.map(({ kind }) => kind), ['state', 'lost'])
  }
})

void t.test('a bug is no reason to go on', async t => {
  // eslint-disable-next-line require-yield
  const { error } = await watch([async function * () { throw new TypeError('broken inside') }, serving(0)])
  t.match(error, { message: 'broken inside' })
})

void t.test('the signal ends it, also between two streams', async t => {
  const clock = new ManualClock()
  const stop = new AbortController()
  const watching = watchStream(() => failing('UNAVAILABLE')(clock), { clock, random: () => 0.5, signal: stop.signal })
  t.match(await watching.next(), { value: { kind: 'lost', retryInMs: 1_000 } })
  const next = watching.next()
  const stopped = new Error('stopped')
  stop.abort(stopped)
  await t.rejects(next, stopped)
})
