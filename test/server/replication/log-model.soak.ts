import { execFile } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { chooseSeed } from '../../fakes/random.ts'

const interleavings = 1_000_000
const program = join(import.meta.dirname, 'log-model-run.ts')

void t.test(`no reader skips, reorders or invents a change: ${interleavings} interleavings`, { timeout: 1_700_000 }, async t => {
  const seed = chooseSeed()
  t.comment(`ASSAY_SEED=${seed}`)
  const started = performance.now()
  const programs = availableParallelism()
  const each = Math.ceil(interleavings / programs)
  const violations = await Promise.all(Array.from({ length: programs }, async (_, index) => {
    const { stdout } = await promisify(execFile)(process.execPath, [program, String(seed + index * each), String(each)])
    return stdout
  }))
  t.strictSame(violations.filter(violation => violation !== ''), [])
  t.comment(`${each * programs} interleavings in ${Math.round((performance.now() - started) / 1000)} s on ${programs} cores`)
})
