import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { acceptAll } from '../../src/rpc/accept-all.ts'
import { HandshakeGate } from '../../src/rpc/handshake-gate.ts'
import { HandshakePatience } from '../../src/rpc/handshake-patience.ts'
import { noNetwork, peerNetwork } from '../../src/rpc/peer-network.ts'
import { Turns } from '../../src/rpc/turns.ts'
import { ManualClock, settle } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'
import { chooseSeed, Random } from '../fakes/random.ts'

await t.test('handshakes begin in turn, when their clients have spoken', async t => {
  const { gate, begun, clock, dial, accepted } = await openGate(t, 2)
  await dial('')
  await eventually('it is accepted', () => accepted.length === 1)
  t.same([begun.length, gate.waiting], [0, 0], 'who says nothing takes nobody\'s place')
  for (const word of ['a', 'b', 'c', 'd']) {
    await dial(word)
    await eventually('it was heard', () => begun.length + gate.waiting === 'abcd'.indexOf(word) + 1)
  }
  t.same(await wordsOf(begun), ['a', 'b'], 'two at a time; what they said is in the socket again')
  gate.done(begun[0] as Socket)
  await eventually('the next one', () => begun.length === 3)
  t.equal(gate.waiting, 1)
  begun[1]?.destroy()
  await eventually('a handshake that failed makes room', () => begun.length === 4)
  t.same(await wordsOf(begun.slice(2)), ['c', 'd'], 'in the order in which they spoke')

  await dial('e')
  await eventually('it was heard', () => gate.waiting === 1)
  await clock.advance(499)
  t.equal(begun.length, 4)
  await clock.advance(1)
  await eventually('a client that lets its handshake wait holds up nobody', () => begun.length === 5)
})

await t.test('who gives up meanwhile, or says too much, is forgotten', async t => {
  const { gate, begun, dial, accepted } = await openGate(t, 1)
  await dial('first')
  const [leaves] = [await dial('leaves'), await dial('stays')]
  await eventually('they wait', () => gate.waiting === 2)
  leaves.end()
  await eventually('it is gone without a handshake', () => gate.waiting === 1)
  const loud = await dial('')
  loud.on('error', () => undefined).write(randomBytes(100_000))
  await eventually('it is cut off', () => loud.destroyed)
  gate.done(begun[0] as Socket)
  await eventually('the next one', () => begun.length === 2)
  t.same(await wordsOf(begun.slice(1)), ['stays'])

  const [silent, waiting] = [await dial(''), await dial('waits')]
  await eventually('both are here', () => accepted.length === 6 && gate.waiting === 1)
  gate.close()
  await eventually('when the server closes, whoever had no turn is sent away', () => silent.destroyed && waiting.destroyed)
  t.notOk(begun[1]?.destroyed, 'a handshake under way goes on')
})

await t.test('addresses take turns, and a crowd from one does not have all places', async t => {
  const { gate, begun, clock, dial } = await openGate(t, 4, { mostPerNetwork: 3 })
  let heard = 0
  const speak = async (word: string, from: string) => {
    await dial(word, from)
    heard++
    await eventually('it was heard', () => begun.length + gate.waiting === heard)
  }
  for (let n = 1; n <= 20; n++) await speak(`crowd ${n}`, '127.0.0.2')
  t.same(await wordsOf(begun), ['crowd 1', 'crowd 2', 'crowd 3'], 'one address leaves a place for others')
  await speak('other 1', '127.0.0.3')
  t.same(await wordsOf(begun.slice(3)), ['other 1'], 'who comes from elsewhere begins at once, though seventeen came before')

  for (const word of ['other 2', 'other 3']) await speak(word, '127.0.0.3')
  await speak('third', '127.0.0.4')
  const turns: string[] = []
  for (let n = 4; n < 10; n++) {
    gate.done(begun[n - 4] as Socket)
    await eventually('the next one', () => begun.length === n + 1)
    turns.push(...await wordsOf(begun.slice(n)))
  }
  t.same(turns, ['crowd 4', 'other 2', 'third', 'crowd 5', 'other 3', 'crowd 6'], 'one of each address after the other')

  for (let n = 6; n < 10; n++) gate.done(begun[n] as Socket)
  await eventually('only the crowd is left, and has its three places', () => begun.length === 13)
  await clock.advance(499)
  t.equal(begun.length, 13)
  await clock.advance(1)
  await eventually('those that let their handshakes wait hold up their own neither', () => begun.length === 16)
})

t.test('whom connections are counted for', async t => {
  const same = [
    ['10.0.0.1', '10.0.0.1'], ['::ffff:10.0.0.1', '10.0.0.1'], ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:db8:1:2::9', '2001:db8:1:2::/64'], ['2001:db8::1', '2001:db8:0:0::/64'], ['::1', '0:0:0:0::/64'],
    ['1::2:3:4:5:6:7', '1:0:2:3::/64'], ['fe80::1%eth0', 'fe80:0:0:0::/64'], ['::1.2.3.4', '0:0:0:0::/64']
  ] as const
  for (const [address, network] of same) t.equal(peerNetwork(address), network)
  t.equal(peerNetwork(undefined), noNetwork, 'a Unix socket has none')
})

t.test('turns against a list that is walked', async t => {
  const random = new Random(chooseSeed())
  const turns = new Turns<string>()
  /** In the order in which the places are next. */
  let places: { place: string, items: string[] }[] = []
  for (let step = 0; step < 3_000; step++) {
    const place = `p${random.below(5)}`
    const found = places.find(one => one.place === place)
    if (random.chance(0.5)) {
      turns.add(place, `item ${step}`)
      if (found === undefined) places.push({ place, items: [`item ${step}`] })
      else found.items.push(`item ${step}`)
    } else if (random.chance(0.3)) {
      const item = found === undefined ? 'nobody' : random.pick(found.items)
      turns.remove(place, item)
      if (found !== undefined) found.items = found.items.filter(one => one !== item)
    } else {
      const next = places.find(one => one.place !== place)
      const expected = next?.items.shift()
      if (next !== undefined) places = [...places.filter(one => one !== next), next]
      if (turns.take(one => one !== place) !== expected) t.fail(`step ${step}`)
    }
    places = places.filter(({ items }) => items.length > 0)
    if (turns.size !== places.flatMap(({ items }) => items).length) t.fail(`size at step ${step}`)
  }
  t.same([...turns], places.flatMap(({ items }) => items))
})

await t.test('a client that says nothing has its time', async t => {
  const { dial } = await openGate(t, 1, { firstWordMs: 50 })
  const silent = await dial('')
  await eventually('it is cut off', () => silent.destroyed)
  t.pass()
})

await t.test('all that wait are accepted, not one in each turn of the event loop', async t => {
  const server = createServer()
  const accepted: Socket[] = []
  server.on('connection', socket => accepted.push(socket))
  acceptAll(server, socket => accepted.push(socket))
  await listen(t, server, accepted)
  const count = 200
  const clients = Array.from({ length: count }, () => connect({ port: portOf(server), host: '127.0.0.1' }))
  for (const client of clients) t.teardown(() => { client.destroy() })
  // The kernel completes connections when it gets to it: turns in which there was none to accept do not count.
  let turns = 0
  for (const end = performance.now() + 60_000; accepted.length < count && performance.now() < end;) {
    const before = accepted.length
    await new Promise(resolve => setImmediate(resolve))
    if (accepted.length > before) turns++
  }
  t.equal(accepted.length, count)
  t.ok(turns < count / 4, `${turns} turns for ${count} connections`)
  accepted.forEach((socket, index) => socket.end(`answer ${index}`))
  const answers = await Promise.all(clients.map(async client => (await once(client, 'data') as [Buffer])[0].toString()))
  t.equal(new Set(answers).size, count, 'each is a connection of its own, and works')
  t.ok(accepted.every(({ remoteAddress, remotePort }) => remoteAddress === '127.0.0.1' && remotePort !== undefined))
})

t.test('patience grows while it is in vain, up to a minute', async t => {
  const patience = new HandshakePatience()
  const waits = Array.from({ length: 5 }, () => {
    const { ms } = patience
    patience.waitedInVain()
    return ms
  })
  t.same(waits, [10_000, 20_000, 40_000, 60_000, 60_000])
  patience.wasAnswered()
  t.equal(patience.ms, 10_000)
})

/** A gate before handshakes that never end by themselves. */
async function openGate (t: Test, most: number, { mostPerNetwork = most, firstWordMs = 10_000 } = {}) {
  const clock = new ManualClock()
  const [accepted, begun]: [Socket[], Socket[]] = [[], []]
  const gate = new HandshakeGate({ most, mostPerNetwork, slotMs: 500, firstWordMs, clock },
    socket => begun.push(socket.on('error', () => undefined)))
  const server = createServer(socket => {
    accepted.push(socket)
    gate.enter(socket)
  })
  await listen(t, server, accepted)
  const dial = async (word: string, from = '127.0.0.1'): Promise<Socket> => {
    const client = connect({ port: portOf(server), host: '127.0.0.1', localAddress: from }).resume()
    t.teardown(() => { client.destroy() })
    await once(client, 'connect')
    if (word !== '') client.write(word)
    await settle()
    return client
  }
  return { gate, begun, accepted, clock, dial }
}

async function listen (t: Test, server: Server, accepted: readonly Socket[]): Promise<void> {
  server.listen({ port: 0, host: '127.0.0.1', backlog: 1024 })
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of accepted) socket.destroy()
    server.close()
  })
}

function portOf (server: Server): number { return (server.address() as { port: number }).port }

async function wordsOf (sockets: readonly Socket[]): Promise<string[]> {
  return await Promise.all(sockets.map(async socket => {
    const bytes = socket.read() as Buffer | null
    return String(bytes ?? (await once(socket, 'data') as [Buffer])[0])
  }))
}
