import t from 'tap'
import { noEnvoy } from '../../fakes/envoy.ts'
import { chooseSeed } from '../../fakes/random.ts'
import { compareInEnvoy } from './compare-in-envoy.ts'

const skip = noEnvoy()

const patience = { skip, timeout: 1_500_000 }
t.test('a real Envoy decides thousands of requests by hundreds of policy sets as the engine does', patience, async t => {
  const seed = chooseSeed()
  t.comment(`ASSAY_SEED=${seed}`)
  for (let round = 0; round < 4; round++) {
    const { disagreements, seen } = await compareInEnvoy({ seed: seed + round, sets: 50, requests: 50, connections: 4 })
    t.strictSame(disagreements, [])
    t.comment([...seen].map(([what, count]) => `${what}: ${count}`).join(', '))
  }
})
