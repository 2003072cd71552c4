import t from 'tap'
import { chooseSeed } from '../../fakes/random.ts'
import { compareIstio } from './istio-at-random.ts'

t.test('half a million requests mean to policies made at random what the documents say', t => {
  const seed = chooseSeed()
  t.comment(`ASSAY_SEED=${seed}`)
  t.same(compareIstio(seed, 5_000, 100).differences, [])
  t.end()
})
