import t from 'tap'
import { DecisionLog } from '../../../src/authz/decision-log/decision-log.ts'
import { Mask } from '../../../src/authz/decision-log/mask.ts'
import { DecisionMetrics } from '../../../src/authz/metrics/decision-metrics.ts'
import { createMetrics } from '../../../src/runtime/metrics.ts'
import { decided } from './decided.ts'

/** CPU time of this process per call, in microseconds: the best of some rounds, since other processes share the cores. */
function cpuMicroseconds (calls: number, call: (i: number) => void): number {
  let best = Infinity
  for (let round = 0; round < 7; round++) {
    const begin = process.cpuUsage()
    for (let i = 0; i < calls; i++) call(i)
    const { user, system } = process.cpuUsage(begin)
    best = Math.min(best, (user + system) / calls)
  }
  return best
}

t.test('recording a decision costs at most 3 us when it is only remembered', t => {
  const log = new DecisionLog({ labels: { id: 'test' }, mask: new Mask([]) })
  const metrics = new DecisionMetrics(createMetrics({ prefix: 'test' }))
  const [request, decision, latencyMs] = decided({ 'x-request-id': 'r1' })
  const remembered = cpuMicroseconds(500_000, () => { log.record(request, decision, latencyMs) })
  const counted = cpuMicroseconds(500_000, () => { metrics.decided(decision, latencyMs) })
  t.comment(`${remembered.toFixed(3)} us to remember, ${counted.toFixed(3)} us to count`)
  t.ok(remembered <= 3)
  t.ok(counted <= 3)
  t.end()
})
