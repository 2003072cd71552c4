import { bind, type BoundService } from '../rpc/bound-service.ts'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import type { Telemetry } from '../rpc/telemetry/telemetry.ts'
import { metricsService } from '../wire/generated/host-metrics.ts'

/** Of all plugins together: what comes from outside is not remembered without end. */
const most = { names: 500, series: 5_000, text: 200 }

interface Label { readonly name: string, readonly value: string }
type Kind = 'count' | 'gauge' | 'sample'
interface Kept { readonly kind: Kind, readonly labels: readonly string[] }
const words = { count: 'counter', gauge: 'gauge', sample: 'sample' } as const satisfies Record<Kind, string>

export interface PluginMetricsDeps {
  /** Whether a name is shown by ourselves: two metrics of one name would spoil the whole answer. */
  readonly isOurs: (name: string) => boolean
  readonly clock: Clock
  readonly log: Logger
}

/**
 * SPIRE's host service `Metrics`: what plugins measure goes where what we measure under SPIRE's names goes, under the names that it has
 * there: the prefix and the key's parts. Times are in milliseconds, as there. A call is never refused for what cannot be
 * kept: plugins do not expect that. The log says so once per name.
 */
export function pluginMetrics (
  telemetry: Pick<Telemetry, Kind>, { isOurs, clock, log }: PluginMetricsDeps
): BoundService {
  const kept = new Map<string, Kept>()
  const series = new Set<string>()
  const told = new Set<string>()

  function drop (name: string, why: string): void {
    if (told.has(name) || told.size >= most.names) return
    told.add(name)
    log.warn({ metric: name.slice(0, most.text), why }, 'what a plugin measured is not kept')
  }

  /** Tells it, unless it cannot be kept. */
  function tell (kind: Kind, key: readonly string[], value: number, sent: readonly Label[]): object {
    const name = wordOf(key.join('_'))
    const labels = new Map(sent.map(({ name, value }) => [wordOf(name), value]))
    const why = fault(kind, name, labels)
    if (why !== undefined) drop(name, why)
    else telemetry[kind](key.map(wordOf).join('.'), value, Object.fromEntries(labels))
    return {}
  }

  /** Remembers what has none. @returns why it cannot be kept */
  function fault (kind: Kind, name: string, labels: ReadonlyMap<string, string>): string | undefined {
    if (!/^[A-Za-z_]\w*$/.test(name) || name.length > most.text) return 'it has no name, or a long one'
    if (isOurs(name)) return 'the name is one of our own'
    for (const [label, value] of labels) {
      if (!/^(?!__)[A-Za-z_]\w*$/.test(label) || ['le', 'quantile'].includes(label)) return 'a label has a name that cannot be'
      if (value.length > most.text) return `the value of a label is longer than ${most.text} characters`
    }
    const one = [name, ...[...labels].map(pair => JSON.stringify(pair)).toSorted()].join(' ')
    if (!series.has(one) && series.size >= most.series) return `there are ${most.series} series already`
    const found = kept.get(name) ?? { kind, labels: [...labels.keys()] }
    if (!kept.has(name) && kept.size >= most.names) return `there are ${most.names} names already`
    if (found.kind !== kind) return `it is a ${words[found.kind]} already`
    if ([...labels.keys()].some(label => !found.labels.includes(label))) return 'it has come with other labels before'
    kept.set(name, found)
    series.add(one)
    return undefined
  }

  function sample (key: readonly string[], value: number, labels: readonly Label[]): object {
    return Number.isFinite(value) ? tell('sample', key, value, labels) : {}
  }

  return bind(metricsService, {
    setGauge: async ({ key, val, labels }) => tell('gauge', key, val, labels),
    async incrCounter ({ key, val, labels }) {
      if (!(val >= 0 && Number.isFinite(val))) {
        drop(wordOf(key.join('_')), 'a counter only grows')
        return {}
      }
      return tell('count', key, val, labels)
    },
    addSample: async ({ key, val, labels }) => sample(key, val, labels),
    // A plugin's clock counts nanoseconds and ours milliseconds: what began in this one has taken no less than nothing.
    measureSince: async ({ key, time, labels }) => sample(key, Math.max(0, clock.now().getTime() - Number(time / 1_000n) / 1_000), labels),
    // Prometheus has nothing that it could be, and SPIRE's endpoint shows none either; nobody's plugin is known to tell one.
    emitKey: async () => ({})
  })
}

/** As in SPIRE's names: what Prometheus does not take becomes `_`. */
function wordOf (name: string): string { return name.replaceAll(/[^A-Za-z0-9_]/g, '_') }
