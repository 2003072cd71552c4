import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { udpLink, unixLink } from '../../../src/rpc/telemetry/datagram-link.ts'
import { DatagramSender } from '../../../src/rpc/telemetry/datagram-sender.ts'
import { capturedLog } from '../../fakes/captured-log.ts'
import { ManualClock } from '../../fakes/clock.ts'
import { eventually } from '../../fakes/eventually.ts'
import { freePort } from '../../fakes/free-port.ts'
import { type LineReceiver, openReceiver, openUnixReceiver } from '../../fakes/telemetry.ts'

void t.test('lines go together in datagrams of at most that size, in their order', async t => {
  await using receiver = await openReceiver()
  const [clock, { log, lines }] = [new ManualClock(), capturedLog()]
  await using sender = new DatagramSender(udpLink(receiver.to), { to: 'there', largest: 20, clock, log })
  for (const line of ['1234567', '123456789', 'x', '12345678901234567890', 'ä23456789012345678', 'last']) sender.push(line)
  await eventually('they are sent', async () => {
    await clock.advance(100)
    return receiver.datagrams.length === 3
  })
  const expected = ['1234567\n123456789\nx\n', 'ä23456789012345678\n', 'last\n']
  t.strictSame(receiver.datagrams, expected, 'in bytes; one that is too long is left out')
  await clock.advance(60_000)
  t.equal(clock.sleeping, 0, 'who has nothing to send sleeps without a clock')
  sender.push('later')
  await eventually('it is sent', async () => {
    await clock.advance(100)
    return receiver.datagrams.at(-1) === 'later\n'
  })
  t.strictSame(lines, [])
})

void t.test('what is left is sent at the end, also when it had not begun', async () => {
  await using receiver = await openReceiver()
  {
    const deps = { to: 'there', largest: 100, clock: new ManualClock(), log: capturedLog().log }
    await using sender = new DatagramSender(udpLink(receiver.to), deps)
    sender.push('the only one')
  }
  await receiver.has('the only one')
})

void t.test('a receiver that is away costs nothing but lines, is told of once, and is found when it is there', async t => {
  const port = await freePort()
  const [clock, { log, lines }] = [new ManualClock(), capturedLog()]
  await using sender = new DatagramSender(udpLink({ host: 'localhost', port }), { to: 'there', largest: 100, clock, log })
  const tell = () => sender.push('told')
  await eventually('it is missed', async () => {
    tell()
    await clock.advance(100)
    return lines.length > 0
  })
  t.match(lines, [{ level: 'warn', to: 'there', reason: /ECONNREFUSED/, msg: /not taken there/ }])
  for (let round = 0; round < 10; round++) {
    tell()
    await clock.advance(5_100)
  }
  t.equal(lines.length, 1, 'once, however often it is tried')
  for (let line = 0; line < 100_000; line++) tell()
  await using receiver = await openReceiver(port)
  await eventually('it is found again', async () => {
    tell()
    await clock.advance(5_100)
    return receiver.lines().length > 0 && lines.length > 1
  })
  const [, again] = lines
  t.match(again, { level: 'info', msg: /taken there again/ })
  t.ok(Number(again?.lost) > 90_000, 'of what waited little was kept, and the number of the rest is told')
})

void t.test('a name that nobody knows is tried again, and ends when it must', async t => {
  const [clock, { log, lines }] = [new ManualClock(), capturedLog()]
  {
    await using sender = new DatagramSender(udpLink({ host: 'nowhere.invalid', port: 8125 }), { to: 'there', largest: 100, clock, log })
    sender.push('told')
    await eventually('it is missed', async () => {
      await clock.advance(100)
      return lines.length > 0
    })
  }
  t.match(lines, [{ level: 'warn', reason: /ENOTFOUND|EAI_AGAIN/ }])
})

void t.test('a Unix socket takes them too, one that comes later, is full for a while, or is made anew', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'dsd-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const path = join(folder, 'dsd.socket')
  const [clock, { log, lines }] = [new ManualClock(), capturedLog()]
  await using sender = new DatagramSender(unixLink(path), { to: `unix://${path}`, largest: 8_192, clock, log })
  const arrives = (receiver: LineReceiver, line: string) => eventually(line, async () => {
    sender.push(line)
    await clock.advance(5_100)
    return receiver.lines().includes(line)
  })
  sender.push('early')
  await eventually('it is missed', async () => {
    await clock.advance(100)
    return lines.length > 0
  })
  t.match(lines, [{ level: 'warn', to: `unix://${path}`, reason: `connect ENOENT ${path}` }])
  {
    await using receiver = openUnixReceiver(path)
    await arrives(receiver, 'first')
    t.ok(receiver.lines().includes('early'), 'what waited came too')
    // Nobody reads meanwhile, and the kernel keeps little.
    const burst = Array.from({ length: 20_000 }, (_, index) => `${index} ${'x'.repeat(1_000)}`)
    for (const line of burst) sender.push(line)
    await clock.advance(5_100)
    await arrives(receiver, 'after the burst')
    t.ok(receiver.lines().length < burst.length, 'what it did not take is lost')
  }
  await rm(path)
  await eventually('it is known to be gone', async () => {
    sender.push('gone')
    await clock.advance(100)
    return lines.some(({ reason }) => /ECONNREFUSED|ENOENT|ENOTCONN/.test(String(reason)))
  })
  await using receiver = openUnixReceiver(path)
  await arrives(receiver, 'to the new one')
})
