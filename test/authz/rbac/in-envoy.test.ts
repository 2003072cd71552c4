import t from 'tap'
import { noEnvoy } from '../../fakes/envoy.ts'
import { chooseSeed } from '../../fakes/random.ts'
import { compareInEnvoy } from './compare-in-envoy.ts'

const skip = noEnvoy()

t.test('a real Envoy decides as the engine does, HTTP and bytes, whoever calls and however the path is written', { skip, timeout: 120_000 },
  async t => {
    const seed = chooseSeed()
    t.comment(`ASSAY_SEED=${seed}`)
    const { disagreements, seen } = await compareInEnvoy({ seed, sets: 30, requests: 20, connections: 4 })
    t.strictSame(disagreements, [])
    t.comment([...seen].map(([what, count]) => `${what}: ${count}`).join(', '))
    for (const kind of ['http allow rule', 'http deny rule', 'http deny no-rule-allows', 'http allow default', 'http deny federation',
      'http asked', 'http beside what is asked']) {
      t.ok((seen.get(kind) ?? 0) > 10, `${kind}: ${seen.get(kind)}`)
    }
    t.ok((seen.get('tcp deny rule') ?? 0) > 5)
  })
