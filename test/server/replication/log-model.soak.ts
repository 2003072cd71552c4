import { availableParallelism } from 'node:os'
import t from 'tap'
import { chooseSeed } from '../../fakes/random.ts'
import { runInterleavings } from './run-interleavings.ts'

const interleavings = 1_000_000

void t.test(`no reader skips, reorders or invents a change: ${interleavings} interleavings`, { timeout: 1_700_000 }, async t => {
  const seed = chooseSeed()
  t.comment(`ASSAY_SEED=${seed}`)
  const started = performance.now()
  const programs = availableParallelism()
  const each = Math.ceil(interleavings / programs)
  const violations = await Promise.all(Array.from({ length: programs }, (_, index) => runInterleavings(seed + index * each, each)))
  t.strictSame(violations.filter(violation => violation !== ''), [])
  t.comment(`${each * programs} interleavings in ${Math.round((performance.now() - started) / 1000)} s on ${programs} cores`)
})
