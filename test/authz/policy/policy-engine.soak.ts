import t from 'tap'
import { chooseSeed } from '../../fakes/random.ts'
import { compareAtRandom } from './compare-at-random.ts'

t.test('the index decides a million requests as a walk over all rules does', t => {
  const seed = chooseSeed()
  t.comment(`ASSAY_SEED=${seed}`)
  t.same(compareAtRandom(seed, 1_000, 1_000).differences, [])
  t.end()
})
