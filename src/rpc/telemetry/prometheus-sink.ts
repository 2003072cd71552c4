import { createMetrics, type Counter, type Gauge, type Histogram, type Metrics } from '../../runtime/metrics.ts'
import type { Labels, MetricSink } from './metric-sink.ts'

/** Where gauges are asked for whenever they are read. */
export interface PrometheusSink extends MetricSink {
  /** From now on. @param read `undefined`: there is no value now */
  watch (name: string, read: () => number | undefined, labels: Labels): void
}

/**
 * Shows metrics in Prometheus' format, with `_` for what it does not take in names. A name has the labels of its first value, or fewer.
 * @param beside where they are read
 */
export function prometheusSink (prefix: string, beside: Metrics): PrometheusSink {
  const metrics = createMetrics({ prefix: wordOf(prefix), ofProcess: false })
  beside.include(() => metrics.expose())
  const counters = new Map<string, Counter<string>>()
  const summaries = new Map<string, Histogram<string>>()
  const gauges = new Map<string, Gauge<string>>()
  const optionsOf = (name: string, labels: Labels) => {
    const word = wordOf(name.slice(prefix.length + 1))
    return { name: word, help: `SPIRE's ${word}; see docs/metrics.md`, labels: Object.keys(labels) }
  }
  return {
    count: (name, by, labels) => kept(counters, name, () => metrics.counter(optionsOf(name, labels))).add(by, labels),
    sample: (name, value, labels) => kept(summaries, name, () => metrics.summary(optionsOf(name, labels))).observe(value, labels),
    gauge: (name, value, labels) => kept(gauges, name, () => metrics.gauge(optionsOf(name, labels))).set(value, labels),
    watch (name, read, labels) {
      metrics.gauge<string>(optionsOf(name, labels)).collectEach(() => {
        const value = read()
        return value === undefined ? [] : [[value, labels]]
      })
    }
  }
}

function kept<T> (known: Map<string, T>, name: string, make: () => T): T {
  const found = known.get(name) ?? make()
  known.set(name, found)
  return found
}

/** What Prometheus does not take becomes `_`. */
function wordOf (name: string): string { return name.replaceAll(/\W/g, '_') }
