import t from 'tap'
import { chooseSeed } from '../../fakes/random.ts'
import { compareIstio } from './istio-at-random.ts'

t.test('three hundred thousand requests are decided as the documents of policies made at random say', t => {
  const seed = chooseSeed()
  t.comment(`ASSAY_SEED=${seed}`)
  t.same(compareIstio(seed, 3_000, 100).differences, [])
  t.end()
})
