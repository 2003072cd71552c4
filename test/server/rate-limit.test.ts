import t from 'tap'
import { RateLimiter } from '../../src/server/rate-limit.ts'
import { ManualClock, settle } from '../fakes/clock.ts'

const never = new AbortController().signal

void t.test('a bucket holds one second of calls and refills', async t => {
  const clock = new ManualClock()
  const limiter = new RateLimiter(10, clock)
  await limiter.take('1.2.3.4', 10, never)
  let done = false
  const waiting = limiter.take('1.2.3.4', 5, never).then(() => { done = true })
  await settle()
  t.notOk(done, 'the bucket is empty')
  await limiter.take('5.6.7.8', 10, never)
  await clock.advance(499)
  t.notOk(done, 'half of the tokens need half a second')
  await clock.advance(1)
  await waiting
  t.ok(done)
})

void t.test('a count beyond the bucket is refused with SPIRE\'s text', async t => {
  const limiter = new RateLimiter(10, new ManualClock())
  await t.rejects(limiter.take('a', 11, never), { code: 'rate_limited', message: 'rate (11) exceeds burst size (10)' })
})

void t.test('a caller that gives up gives its tokens back', async t => {
  const clock = new ManualClock()
  const limiter = new RateLimiter(10, clock)
  await limiter.take('a', 10, never)
  const gone = new AbortController()
  const waiting = limiter.take('a', 10, gone.signal)
  gone.abort(new Error('gone'))
  await t.rejects(waiting, { message: 'gone' })
  await clock.advance(1000)
  await limiter.take('a', 10, never)
  t.pass('the next caller did not pay for it')
})

void t.test('a queue of callers from one address is bounded', async t => {
  const clock = new ManualClock()
  const limiter = new RateLimiter(1, clock)
  await limiter.take('a', 1, never)
  const waiting = Array.from({ length: 30 }, () => limiter.take('a', 1, never))
  await t.rejects(limiter.take('a', 1, never), { code: 'rate_limited' })
  await clock.advance(30_000)
  await Promise.all(waiting)
})
