import t from 'tap'
import { eventually } from '../fakes/eventually.ts'
import { chooseSeed, Random } from '../fakes/random.ts'
import { FakeAgent } from './fake-agent.ts'
import { serialOf } from '../fakes/serial.ts'
import { FilesFolder } from './files-process.ts'

const patienceMs = 120_000

void t.test('killed at any moment, assay files leaves a certificate with its key, and goes on', async t => {
  await using agent = await FakeAgent.start()
  const files = new FilesFolder(t, agent)
  const seed = chooseSeed()
  const random = new Random(seed)
  // Ready-made ones, given as fast as they can be written.
  const svids = await Promise.all(Array.from({ length: 8 }, () => agent.domain.issue('/web')))
  const deaths = 2
  const serials = new Set<string>()
  for (let death = 0; death < deaths; death++) {
    const running = files.start(t, {})
    // What is in the files already would not be written again.
    await agent.rotate()
    await running.logged('files written')
    const stop = new AbortController()
    const rotating = (async () => {
      for (let i = 0; !stop.signal.aborted; i++) {
        agent.give([svids[i % svids.length] as typeof svids[number]])
        serials.add(files.readCertificate()?.serialNumber ?? 'none')
        await new Promise(resolve => setTimeout(resolve, 10 + random.below(20)))
      }
    })()
    const writes = 3 + random.below(8)
    await eventually('it writes', () => running.log.split('"files written"').length > writes, patienceMs)
    await running.kill9()
    stop.abort()
    await rotating
    const left = files.readPair()
    // Between two looks there may have been all writes.
    serials.add(left?.serialNumber ?? 'none')
    t.ok(left, `death ${death} of seed ${seed}: certificate and key belong together`)
  }
  t.ok(serials.size > deaths && !serials.has('none'), 'there was never none')
  const running = files.start(t, {})
  const last = await agent.rotate()
  await running.said('files written', serialOf(last))
  t.ok(files.readPair())
})
