import type { Metrics } from '../runtime/metrics.ts'

/** What is counted; none of the labels comes from outside. */
export interface FilesMetrics {
  agentAnswers (does: boolean): void
  refusedAnswer (): void
  wrote (outcome: 'written' | 'unchanged' | 'failed' | 'removed'): void
  reloaded (outcome: 'done' | 'failed'): void
  /** Whether the program shows what was written; told after each look that was asked for. */
  served (does: boolean): void
}

export interface FilesGauges {
  /** Unix time; 0: there is no X509-SVID. */
  readonly svidExpiresAt: () => number
}

/** @param metrics absent: nothing is counted */
export function filesMetrics (metrics: Metrics | undefined, gauges: FilesGauges): FilesMetrics {
  if (metrics === undefined) return { agentAnswers () {}, refusedAnswer () {}, wrote () {}, reloaded () {}, served () {} }
  const agent = metrics.gauge({ name: 'agent_connected', help: '1 while the agent answers' })
  const refused = metrics.counter({ name: 'answers_refused_total', help: 'Answers of the agent that were not written' })
  const writes = metrics.counter({ name: 'writes_total', help: 'Sets of files written', labels: ['outcome'] })
  const reloads = metrics.counter({ name: 'reloads_total', help: 'Times that the program was told', labels: ['outcome'] })
  const looks = metrics.counter({ name: 'serves_checks_total', help: 'Looks at what the program serves', labels: ['outcome'] })
  const serves = metrics.gauge({ name: 'serves_current', help: '1: the program serves what was written; 0: it does not; -1: not known' })
  serves.set(-1)
  metrics.gauge({
    name: 'svid_expiry_timestamp_seconds', help: 'When the X509-SVID in the files ends; 0: there is none', collect: gauges.svidExpiresAt
  })
  return {
    agentAnswers: does => agent.set(does ? 1 : 0),
    refusedAnswer: () => refused.add(1),
    wrote: outcome => writes.add(1, { outcome }),
    reloaded: outcome => reloads.add(1, { outcome }),
    served: does => {
      looks.add(1, { outcome: does ? 'served' : 'not_served' })
      serves.set(does ? 1 : 0)
    }
  }
}
