import t from 'tap'
import { chooseSeed } from '../../fakes/random.ts'
import type { Faults } from './log-model.ts'
import { runInterleavings } from './run-interleavings.ts'

const seed = chooseSeed()
const interleavings = 4_000

// A million of them are in log-model.soak.ts.
void t.test(`no reader skips, reorders or invents a change, and all find out: ${interleavings} interleavings`, async t => {
  t.comment(`ASSAY_SEED=${seed}`)
  t.equal(await runInterleavings(seed, interleavings), '')
})

void t.test('the model finds out what would break it', async t => {
  const faults: Readonly<Record<string, Faults>> = {
    'numbers that come from a sequence': { numbersWithoutLock: true },
    'rows that are read later than the log': { noSnapshot: true },
    'forgetting that readers are not told of': { compactionUnnoticed: true },
    'an epoch that outlives a restore': { epochKept: true },
    'readers that only look when they are nudged': { nudgesTrusted: true }
  }
  for (const [what, fault] of Object.entries(faults)) t.match(await runInterleavings(seed, 5_000, fault), /^ASSAY_SEED=/, what)
})
