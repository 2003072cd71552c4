import t from 'tap'
import { createWriteStream } from 'node:fs'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { readEvents } from '../../../src/authz/decision-log/read-events.ts'
import { compareRecorded } from '../../../src/authz/flips/compare-recorded.ts'
import { PolicyEngine } from '../../../src/authz/policy/policy-engine.ts'
import { chooseSeed, Random } from '../../fakes/random.ts'
import { BruteForce, randomChange, recordedAtRandom } from './record-at-random.ts'

const count = 1_000_000

t.test('a million recorded decisions, read from a file, flip as a walk over all rules says', async t => {
  const seed = chooseSeed()
  t.comment(`ASSAY_SEED=${seed}`)
  const random = new Random(seed)
  const folder = await mkdtemp(join(tmpdir(), 'assay-flips-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const { before, after } = randomChange(random)
  const brute = new BruteForce(before, after)
  function * lines () {
    for (const { request, event } of recordedAtRandom(random, new PolicyEngine(before), count)) {
      brute.add(request)
      yield `${JSON.stringify(event)}\n`
    }
  }
  const log = join(folder, 'decisions.log')
  await pipeline(Readable.from(lines()), createWriteStream(log))
  t.comment(`${Math.round((await stat(log)).size / 1e6)} MB`)
  const begin = performance.now()
  const report = await compareRecorded(readEvents(log), before, after)
  const seconds = (performance.now() - begin) / 1_000
  t.comment(`${Math.round(count / seconds)} decisions/s; ${report.flips.length} flips of ${report.flipped} requests; ` +
    `${Math.round(process.memoryUsage.rss() / 1_048_576)} MiB resident`)
  const told = report.flips.map(({ source, destination, operation, before, after, count }) =>
    [[source, destination, operation, before, after].join(', '), count])
  t.same(Object.fromEntries(told), Object.fromEntries(brute.counts))
  t.match(report, { compared: count, differsFromLog: 0, masked: 0, unreadable: 0, untold: 0 })
  t.ok(report.flips.length > 50)
})
