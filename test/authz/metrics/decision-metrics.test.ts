import t from 'tap'
import { DecisionMetrics } from '../../../src/authz/metrics/decision-metrics.ts'
import { RuleCounts } from '../../../src/authz/metrics/rule-counts.ts'
import { SinkMetrics } from '../../../src/authz/metrics/sink-metrics.ts'
import type { Decision } from '../../../src/authz/policy/decision.ts'
import { createMetrics } from '../../../src/runtime/metrics.ts'

const decision = (rule: string | undefined, more: Partial<Decision> = {}): Decision => ({
  allowed: true, reason: rule === undefined ? 'default' : 'rule', rule, audits: [], consult: [], revision: 'r', ...more
})

t.test('rules have series of their own, the busiest first, and never more than so many', async t => {
  const metrics = createMetrics({ prefix: 'assay_authz' })
  const observer = new DecisionMetrics(metrics, { rules: 2 })
  const decide = (rule: string, times: number) => { for (let i = 0; i < times; i++) observer.decided(decision(rule), 0.005) }
  const series = async () => Object.fromEntries((await metrics.expose()).split('\n').flatMap(line => {
    const [, rule, value] = /^assay_authz_rule_decisions_total\{rule="(.*)"\} (\d+)$/.exec(line) ?? []
    return rule === undefined ? [] : [[rule, Number(value)]]
  }))
  decide('p/rare', 1)
  decide('p/busy', 5)
  decide('p/second', 3)
  t.same(await series(), { 'p/busy': 5, 'p/second': 3, other: 1 })
  decide('p/rare', 100)
  decide('p/busy', 1)
  t.same(await series(), { 'p/busy': 6, 'p/second': 3, other: 101 }, 'who has a series keeps it: no counter goes back')
  for (let i = 0; i < 1_000; i++) decide(`p/${i}`, 1)
  t.same(await series(), { 'p/busy': 6, 'p/second': 3, other: 1_101 }, 'and all add up')
})

t.test('names that are any number, such as those of foreign trust domains, take no more memory than so much', t => {
  const counts = new RuleCounts(2)
  let all = 0
  const add = (rule: string) => {
    counts.add(rule)
    all++
  }
  for (let i = 0; i < 3; i++) add('p/busy')
  const taken = new Map<string, number>()
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 20_000; i++) add(`federation/d${round}-${i}.test`)
    add('p/busy')
    t.ok(counts.size <= 10_100, `before they are taken: ${counts.size}`)
    for (const [rule, count] of counts.take()) taken.set(rule, (taken.get(rule) ?? 0) + count)
    t.ok(counts.size <= 2, `afterwards: ${counts.size}`)
  }
  t.equal(taken.get('p/busy'), 6)
  t.equal(taken.size, 3, 'two with a series, and the others')
  t.equal([...taken.values()].reduce((sum, count) => sum + count), all, 'and each counts')
  t.end()
})

t.test('decisions, their latency, shadow rules and the log', async t => {
  const metrics = createMetrics({ prefix: 'assay_authz' })
  const observer = new DecisionMetrics(metrics)
  observer.decided(decision('p/a'), 0.003)
  observer.decided(decision(undefined, { allowed: false, reason: 'federation' }), 20)
  observer.decided(decision('p/a', { shadow: decision('p/s', { allowed: false }) }), 0.003)
  observer.decided(decision('p/a', { shadow: decision('p/s') }), 0.003)
  const sinks = new SinkMetrics(metrics)
  sinks.written('file', 3)
  sinks.dropped('file', 'full', 2)
  sinks.failed('upload')
  const text = await metrics.expose()
  for (const line of [
    'assay_authz_decisions_total{allowed="true",reason="rule"} 3', 'assay_authz_decisions_total{allowed="false",reason="federation"} 1',
    'assay_authz_rule_decisions_total{rule="p/a"} 3', 'assay_authz_shadow_differs_total 1',
    'assay_authz_shadow_rule_differs_total{rule="p/s"} 1', 'assay_authz_decision_seconds_bucket{le="0.000005"} 3',
    'assay_authz_decision_seconds_count 4', 'assay_authz_decision_log_written_total{sink="file"} 3',
    'assay_authz_decision_log_dropped_total{sink="file",reason="full"} 2', 'assay_authz_decision_log_failures_total{sink="upload"} 1'
  ]) t.ok(text.split('\n').includes(line), line)
})
