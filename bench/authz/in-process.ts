import { DecisionLog } from '../../src/authz/decision-log/decision-log.ts'
import { Mask } from '../../src/authz/decision-log/mask.ts'
import { DecisionMetrics } from '../../src/authz/metrics/decision-metrics.ts'
import { PolicyEngine } from '../../src/authz/policy/policy-engine.ts'
import { readPolicies } from '../../src/authz/policy/read-policies.ts'
import type { AuthzRequest } from '../../src/authz/policy/request.ts'
import { createMetrics } from '../../src/runtime/metrics.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import type { Row } from '../suite.ts'
import { asAssay, type BenchCase } from './cases.ts'

/** What of a check is deciding and recording, without any connection. */
export function measureInProcess (one: BenchCase, quick: boolean): Row[] {
  const text = asAssay(one)
  const begin = process.cpuUsage()
  const engine = new PolicyEngine(readPolicies([{ name: 'bench', text }]))
  const loading = process.cpuUsage(begin)
  const requests = one.requests.map(({ source, destination, method, path }): AuthzRequest => ({
    source: { id: parseSpiffeId(source), address: '10.0.0.1' }, destination: { id: parseSpiffeId(destination), port: 8_443 },
    http: { method, path, host: 'server.internal', headers: new Map([['x-request-id', 'r']]) }, time: new Date()
  }))
  const decisions = requests.map(request => engine.decide(request))
  const log = new DecisionLog({ labels: {}, mask: new Mask([]) })
  const metrics = new DecisionMetrics(createMetrics({ prefix: 'bench' }))
  const rounds = quick ? 2 : 200
  const row = (what: string, values: readonly number[]): Row => ({ what: `in process: ${what}`, unit: 'us', values })
  const perCall = (call: (i: number) => void) => Array.from({ length: quick ? 2 : 5 }, () => {
    const started = process.cpuUsage()
    for (let round = 0; round < rounds; round++) for (let i = 0; i < requests.length; i++) call(i)
    const { user, system } = process.cpuUsage(started)
    return (user + system) / rounds / requests.length
  })
  return [
    { what: 'in process: CPU to read and compile', unit: 'ms', values: [(loading.user + loading.system) / 1_000] },
    row('CPU to decide', perCall(i => { engine.decide(requests[i] as AuthzRequest) })),
    row('CPU to remember a decision', perCall(i => { log.record(requests[i] as AuthzRequest, decisions[i] as never, 0.01) })),
    row('CPU to count it', perCall(i => { metrics.decided(decisions[i] as never, 0.01) }))
  ]
}
