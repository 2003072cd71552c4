import fc from 'fast-check'
import t from 'tap'
import { Watchable } from '../../src/runtime/watchable.ts'
import { settle } from '../fakes/clock.ts'

void t.test('the current state first, then the newest', async t => {
  const value = new Watchable('a')
  const stop = new AbortController()
  const states = value.watch(stop.signal)
  t.equal((await states.next()).value, 'a')
  value.set('b')
  value.set('c')
  t.equal((await states.next()).value, 'c', 'a slow watcher skips')
  t.strictSame([value.value, value.revision], ['c', 2])
  const next = states.next()
  await settle()
  value.set('d')
  t.equal((await next).value, 'd', 'one that waits is woken')
  const waiting = states.next()
  stop.abort()
  t.strictSame(await waiting, { value: undefined, done: true }, 'ends without an error')
  const late = value.watch(AbortSignal.abort())
  t.equal((await late.next()).done, true)
})

void t.test('an equal value set again is a new state', async t => {
  const value = new Watchable(1)
  const states = value.watch(new AbortController().signal)
  await states.next()
  value.set(1)
  t.equal((await states.next()).value, 1)
})

void t.test('every watcher sees the last state, and states in order', async t => {
  await fc.assert(fc.asyncProperty(fc.array(fc.boolean(), { maxLength: 30 }), fc.integer({ min: 1, max: 5 }), async (pauses, watchers) => {
    const value = new Watchable(0)
    const stop = new AbortController()
    const seen = Array.from({ length: watchers }, (): number[] => [])
    const watching = seen.map(async states => { for await (const state of value.watch(stop.signal)) states.push(state) })
    for (const pause of pauses) {
      value.set(value.value + 1)
      if (pause) await settle()
    }
    await settle()
    stop.abort()
    await Promise.all(watching)
    for (const states of seen) {
      const isRising = states.every((state, index) => index === 0 || state > (states[index - 1] as number))
      if (!isRising || states.at(-1) !== pauses.length) throw new Error(`saw ${states.join()} of ${pauses.length}`)
    }
  }), { numRuns: 60 })
  t.pass('property held')
})

void t.test('a watcher that leaves holds nothing', async t => {
  const value = new Watchable(0)
  const stop = new AbortController()
  for await (const state of value.watch(stop.signal)) {
    if (state === 0) break
  }
  value.set(1)
  t.equal(value.value, 1)
})
