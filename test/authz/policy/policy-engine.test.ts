import t from 'tap'
import { chooseSeed } from '../../fakes/random.ts'
import { compareAtRandom } from './compare-at-random.ts'

t.test('the index decides as a walk over all rules does', t => {
  const seed = chooseSeed()
  t.comment(`ASSAY_SEED=${seed}`)
  const { differences, seen } = compareAtRandom(seed, 400, 100)
  t.same(differences, [])
  for (const kind of ['allow rule', 'deny rule', 'deny no-rule-allows', 'allow default', 'deny default', 'deny federation',
    'audited', 'asked', 'shadow differs']) {
    t.ok((seen.get(kind) ?? 0) > 100, `${kind}: ${seen.get(kind)}`)
  }
  t.end()
})
