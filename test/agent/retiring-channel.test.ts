import t from 'tap'
import { RetiringChannel } from '../../src/rpc/retiring-channel.ts'
import type { Channel } from '../../src/rpc/channel.ts'

/** Channels that only know their number and whether they were closed. */
function setUp () {
  const closed: number[] = []
  let opened = 0
  const numbers = new Map<Channel, number>()
  const channel = new RetiringChannel(() => {
    const number = ++opened
    const channel: Channel = { client: () => { throw new Error('not needed') }, async [Symbol.asyncDispose] () { closed.push(number) } }
    numbers.set(channel, number)
    return channel
  }, error => (error as Error).message === 'superseded')
  return { channel, closed, numberOf: (channel: Channel) => numbers.get(channel) }
}

t.test('a call under way ends on the channel it began with, which closes after it', async t => {
  const { channel, closed, numberOf } = setUp()
  const { promise, resolve } = Promise.withResolvers<void>()
  const call = channel.use(async channel => { await promise; return numberOf(channel) })
  await channel.replace()
  t.equal(await channel.use(async channel => numberOf(channel)), 2)
  t.same(closed, [])
  resolve()
  t.equal(await call, 1)
  t.same(closed, [1])
})

t.test('a call refused because the new identity was faster is made again with it', async t => {
  const { channel, closed, numberOf } = setUp()
  const { promise, reject } = Promise.withResolvers<never>()
  const call = channel.use(async channel => numberOf(channel) === 1 ? await promise : numberOf(channel))
  await channel.replace()
  reject(new Error('superseded'))
  t.equal(await call, 2)
  t.same(closed, [1])
  await t.rejects(channel.use(async () => { throw new Error('superseded') }), /superseded/, 'on the current channel it is final')
  const other = Promise.withResolvers<never>()
  const failing = channel.use(async () => await other.promise)
  await channel.replace()
  other.reject(new Error('other'))
  await t.rejects(failing, /other/, 'no other failure is tried again')
})
