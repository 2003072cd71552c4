import t from 'tap'
import type { PublicationPlace } from '../../src/federation/publish/publication-place.ts'
import { publishBundle } from '../../src/federation/publish/publish-bundle.ts'
import { Watchable } from '../../src/runtime/watchable.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { ManualClock } from '../fakes/clock.ts'

const bundleOf = (sequenceNumber: bigint): Bundle =>
  ({ trustDomain: parseTrustDomain('example.org'), x509Authorities: [], jwtAuthorities: [], sequenceNumber })
const everyMs = 600_000

/** A publisher to one place that can refuse. */
function start ({ isShared = false, holder = true } = {}) {
  const state = { holder, trouble: undefined as string | undefined, tried: 0, closed: 0 }
  const put: string[] = []
  const place: PublicationPlace = {
    name: '/there', isShared,
    async put (text) {
      state.tried++
      if (state.trouble !== undefined) throw new SpiffeError('bundle_unpublished', state.trouble)
      put.push(text)
    },
    async [Symbol.asyncDispose] () { state.closed++ }
  }
  const clock = new ManualClock()
  const bundle = new Watchable(bundleOf(1n))
  const { log, lines } = capturedLog()
  const stop = new AbortController()
  const published: number[] = []
  const make = async ({ sequenceNumber }: Bundle) => `${sequenceNumber}`
  const run = publishBundle([{ place, everyMs, contentType: 'text/plain', make }], {
    bundle, isHolder: () => state.holder, clock, log, onPublished: (_place, at) => { published.push(at.getTime()) }
  }, stop.signal)
  const end = async () => {
    stop.abort(new Error('over'))
    await run.catch(() => {})
  }
  return { state, put, clock, bundle, lines, published, end }
}

void t.test('at the start, after each change, and regularly', async t => {
  const { put, clock, bundle, published, state, end } = start()
  await clock.advance(0)
  t.strictSame(put, ['1'])
  bundle.set(bundleOf(2n))
  await clock.advance(1)
  t.strictSame(put, ['1', '2'], 'nobody waits for the next round')
  await clock.advance(everyMs)
  t.strictSame(put, ['1', '2', '2'], 'what was signed is renewed')
  t.equal(published.length, 3)
  await end()
  t.equal(state.closed, 1)
})

void t.test('what fails is said once and tried again, ever more rarely, and at once after a change', async t => {
  const { state, put, clock, bundle, lines, end } = start()
  state.trouble = 'full'
  await clock.advance(0)
  t.equal(state.tried, 1)
  for (const [waitMs, tried] of [[5_000, 2], [10_000, 3], [20_000, 4]] as const) {
    await clock.advance(waitMs - 1)
    t.equal(state.tried, tried - 1)
    await clock.advance(1)
    t.equal(state.tried, tried)
  }
  const before = state.tried
  await clock.advance(6 * everyMs)
  t.ok(state.tried - before > 6 && state.tried - before < 12, `never more rarely than the interval: ${state.tried - before}`)
  t.equal(lines.filter(({ level }) => level === 'warn').length, 1, 'said once')
  state.trouble = undefined
  bundle.set(bundleOf(2n))
  await clock.advance(1)
  t.strictSame(put, ['2'])
  t.match(lines.at(-1), { level: 'info', msg: 'the bundle is published' })
  await end()
})

void t.test('what all servers could write is written by the one that does the chores', async t => {
  const { state, put, clock, bundle, end } = start({ isShared: true, holder: false })
  await clock.advance(everyMs)
  bundle.set(bundleOf(2n))
  await clock.advance(1)
  t.strictSame(put, [], 'one that is cut off could set it back')
  state.holder = true
  await clock.advance(1_000)
  t.strictSame(put, ['2'], 'who takes the chores over takes this over')
  await end()
})
