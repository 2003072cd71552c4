import t from 'tap'
import { chooseSeed } from '../../fakes/random.ts'
import { compareIstio } from './istio-at-random.ts'

t.test('policies made at random mean here what the documents say', t => {
  const seed = chooseSeed()
  t.comment(`ASSAY_SEED=${seed}`)
  const { differences, seen } = compareIstio(seed, 300, 40)
  t.same(differences, [])
  for (const protocol of ['http', 'tcp']) {
    for (const kind of ['allow rule', 'deny rule', 'deny no-rule-allows', 'allow default']) {
      t.ok((seen.get(`${protocol} ${kind}`) ?? 0) > 50, `${protocol} ${kind}: ${seen.get(`${protocol} ${kind}`)}`)
    }
  }
  t.end()
})
