import { bind, type BoundService } from '../rpc/bound-service.ts'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import { spireRegistry } from '../rpc/spire-metrics.ts'
import type { Counter, Gauge, Histogram, Metrics } from '../runtime/metrics.ts'
import { metricsService } from '../wire/generated/host-metrics.ts'

/** Of all plugins together: what comes from outside is not remembered without end. */
const most = { names: 500, series: 5_000, text: 200 }

interface Label { readonly name: string, readonly value: string }
interface Kinds { readonly counter: Counter<string>, readonly gauge: Gauge<string>, readonly sample: Histogram<string> }
interface Kept { readonly kind: keyof Kinds, readonly of: Kinds[keyof Kinds], readonly labels: readonly string[] }

export interface PluginMetricsDeps {
  /** Whether a name is shown by ourselves: two metrics of one name would spoil the whole answer. */
  readonly isOurs: (name: string) => boolean
  /** As in `spireRegistry`. */
  readonly hostLabel?: boolean | undefined
  readonly clock: Clock
  readonly log: Logger
}

/**
 * SPIRE's host service `Metrics`: what plugins measure stands among our own under the names that it has in SPIRE's Prometheus endpoint,
 * `spire_server_` or `spire_agent_` and the key's parts. Times are in milliseconds, as there. A call is never refused for what cannot be
 * kept: plugins do not expect that. The log says so once per name.
 */
export function pluginMetrics (
  prefix: 'spire_server' | 'spire_agent', beside: Metrics, { isOurs, hostLabel, clock, log }: PluginMetricsDeps
): BoundService {
  const metrics = spireRegistry(prefix, beside, hostLabel)
  const kept = new Map<string, Kept>()
  const series = new Set<string>()
  const told = new Set<string>()

  function drop (name: string, why: string): undefined {
    if (told.has(name) || told.size >= most.names) return
    told.add(name)
    log.warn({ metric: name.slice(0, most.text), why }, 'what a plugin measured is not kept')
  }

  /** @returns the metric with the labels, or nothing where it cannot be kept */
  function find<K extends keyof Kinds> (kind: K, key: readonly string[], sent: readonly Label[]) {
    const name = wordOf(key.join('_'))
    const labels = new Map(sent.map(({ name, value }) => [wordOf(name), value]))
    if (!/^[A-Za-z_]\w*$/.test(name) || name.length > most.text) return drop(name, 'it has no name, or a long one')
    if (isOurs(name)) return drop(name, 'the name is one of our own')
    for (const [label, value] of labels) {
      if (!/^(?!__)[A-Za-z_]\w*$/.test(label) || ['le', 'quantile'].includes(label)) return drop(name, 'a label has a name that cannot be')
      if (value.length > most.text) return drop(name, `the value of a label is longer than ${most.text} characters`)
    }
    const one = [name, ...[...labels].map(pair => JSON.stringify(pair)).toSorted()].join(' ')
    if (!series.has(one) && series.size >= most.series) return drop(name, `there are ${most.series} series already`)
    const found = kept.get(name) ?? create(kind, name, [...labels.keys()])
    if (found === undefined) return drop(name, `there are ${most.names} names already`)
    if (found.kind !== kind) return drop(name, `it is a ${found.kind} already`)
    if ([...labels.keys()].some(label => !found.labels.includes(label))) return drop(name, 'it has come with other labels before')
    series.add(one)
    return { metric: found.of as Kinds[K], labels: Object.fromEntries(labels) }
  }

  function create (kind: Kept['kind'], name: string, labels: readonly string[]): Kept | undefined {
    if (kept.size >= most.names) return undefined
    const options = { name, help: 'Measured by a plugin', labels }
    const of = kind === 'counter' ? metrics.counter(options) : kind === 'gauge' ? metrics.gauge(options) : metrics.summary(options)
    const made = { kind, of, labels }
    kept.set(name, made)
    return made
  }

  function sample (key: readonly string[], value: number, labels: readonly Label[]): object {
    if (!Number.isFinite(value)) return {}
    const found = find('sample', key, labels)
    found?.metric.observe(value, found.labels)
    return {}
  }

  return bind(metricsService, {
    async setGauge ({ key, val, labels }) {
      const found = find('gauge', key, labels)
      found?.metric.set(val, found.labels)
      return {}
    },
    async incrCounter ({ key, val, labels }) {
      if (!(val >= 0 && Number.isFinite(val))) {
        drop(wordOf(key.join('_')), 'a counter only grows')
        return {}
      }
      const found = find('counter', key, labels)
      found?.metric.add(val, found.labels)
      return {}
    },
    addSample: async ({ key, val, labels }) => sample(key, val, labels),
    measureSince: async ({ key, time, labels }) => sample(key, clock.now().getTime() - Number(time / 1_000n) / 1_000, labels),
    // Prometheus has nothing that it could be, and SPIRE's endpoint shows none either.
    emitKey: async () => ({})
  })
}

/** As in SPIRE's names: what Prometheus does not take becomes `_`. */
function wordOf (name: string): string { return name.replaceAll(/[^A-Za-z0-9_]/g, '_') }
