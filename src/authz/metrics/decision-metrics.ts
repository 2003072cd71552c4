import type { Metrics } from '../../runtime/metrics.ts'
import type { Decision } from '../policy/decision.ts'
import { RuleCounts } from './rule-counts.ts'

export interface DecisionMetricsOptions {
  /** Rules with series of their own; 100. The rest is `other`. */
  readonly rules?: number
}

/** What decisions tell Prometheus. Counting is a few numbers; the registry learns them when it is asked. */
export class DecisionMetrics {
  readonly #rules: RuleCounts
  readonly #shadowRules: RuleCounts
  readonly #totals = new Map<string, number>()
  #shadowDiffers = 0
  readonly #latency

  constructor (metrics: Metrics, { rules = 100 }: DecisionMetricsOptions = {}) {
    this.#rules = new RuleCounts(rules)
    this.#shadowRules = new RuleCounts(rules)
    const decisions = metrics.counter<'allowed' | 'reason'>({ name: 'decisions_total', help: 'Decisions', labels: ['allowed', 'reason'] })
    const byRule = metrics.counter<'rule'>({ name: 'rule_decisions_total', help: 'Decisions by the rule that decided', labels: ['rule'] })
    const shadow = metrics.counter<'rule'>({
      name: 'shadow_rule_differs_total', help: 'Decisions that would be others with shadow rules, by the rule that would decide',
      labels: ['rule']
    })
    const differs = metrics.counter({ name: 'shadow_differs_total', help: 'Decisions that would be others with shadow rules' })
    this.#latency = metrics.histogram({
      name: 'decision_seconds', help: 'How long decisions took',
      buckets: [1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 1e-3, 1e-2, 1e-1]
    })
    metrics.gauge({ name: 'deciding_rules', help: 'Rules that decided since the metrics were read last', collect: () => {
      for (const [key, count] of this.#totals) {
        const [allowed = '', reason = ''] = key.split(' ')
        decisions.add(count, { allowed, reason })
      }
      this.#totals.clear()
      const taken = this.#rules.take()
      for (const [rule, count] of taken) byRule.add(count, { rule })
      for (const [rule, count] of this.#shadowRules.take()) shadow.add(count, { rule })
      differs.add(this.#shadowDiffers)
      this.#shadowDiffers = 0
      return taken.size
    } })
  }

  /** @param latencyMs how long it took */
  decided ({ allowed, reason, rule, shadow }: Decision, latencyMs: number): void {
    const key = allowed ? `true ${reason}` : `false ${reason}`
    this.#totals.set(key, (this.#totals.get(key) ?? 0) + 1)
    if (rule !== undefined) this.#rules.add(rule)
    if (shadow !== undefined && shadow.allowed !== allowed) {
      this.#shadowDiffers++
      this.#shadowRules.add(shadow.rule ?? shadow.reason)
    }
    this.#latency.observe(latencyMs / 1_000)
  }
}
