import t from 'tap'
import { chooseSeed } from '../../fakes/random.ts'
import { lintAtRandom } from './dead-at-random.ts'

t.test('of thousands of policy sets, no rule that is said to decide nothing ever does', t => {
  const seed = chooseSeed()
  t.comment(`ASSAY_SEED=${seed}`)
  const { wrong, said, decided } = lintAtRandom(seed, 5_000, 300)
  t.same(wrong, [])
  t.comment(`${[...said].map(([code, count]) => `${code} ${count}`).join(', ')}; ${decided} requests decided by a rule`)
  t.end()
})
