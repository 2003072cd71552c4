import t from 'tap'
import { chooseSeed } from '../../fakes/random.ts'
import { lintAtRandom } from './dead-at-random.ts'

t.test('a rule that is said to decide nothing never does', t => {
  const seed = chooseSeed()
  t.comment(`ASSAY_SEED=${seed}`)
  const { wrong, said, decided } = lintAtRandom(seed, 300, 100)
  t.same(wrong, [])
  for (const code of ['never-matches', 'not-federated', 'dead-by-deny', 'shadowed']) t.ok((said.get(code) ?? 0) > 20,
    `${code}: ${said.get(code)}`)
  t.ok(decided > 5_000, `rules decided ${decided} requests`)
  t.end()
})
