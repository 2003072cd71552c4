import t from 'tap'
import { releaseMemory } from '../../src/runtime/release-memory.ts'

const mebibytes = () => process.memoryUsage().heapTotal / 1024 / 1024

t.test('what something large has left is given back', async t => {
  let large: object[] | undefined = Array.from({ length: 500_000 }, (_, i) => ({ i, text: `${i}` }))
  const before = mebibytes()
  t.equal(large.length, 500_000)
  large = undefined
  releaseMemory()
  t.ok(mebibytes() < before - 16, 'the heap is smaller by most of it')
})
