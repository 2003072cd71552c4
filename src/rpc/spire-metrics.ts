import { hostname } from 'node:os'
import type { Clock } from '../runtime/clock.ts'
import { createMetrics, type Counter, type Histogram, type Metrics } from '../runtime/metrics.ts'
import type { Took } from '../runtime/took.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import { RpcError } from './rpc-error.ts'
import { statusWord } from './status-word.ts'

/**
 * What SPIRE tells under a name. A `call` is a counter and, as `…_elapsed_time`, a summary of milliseconds, both with the label `status`
 * beside the others; a `sample` is a summary.
 */
export interface SpireName {
  readonly kind: 'call' | 'counter' | 'gauge' | 'sample'
  readonly labels?: readonly string[]
}

/** By the name without `spire_server_` or `spire_agent_`. */
export type SpireNames = Readonly<Record<string, SpireName>>

export type NamesOf<Names extends SpireNames, Kind> =
  { [Name in keyof Names]: Names[Name]['kind'] extends Kind ? Name : never }[keyof Names] & string
type Labels = Readonly<Record<string, string>>

/** Tells what happened under the names of one table. As at SPIRE, a name is there from its first value on, and none without one. */
export interface SpireMetrics<Names extends SpireNames> {
  count (name: NamesOf<Names, 'counter'>, by?: number, labels?: Labels): void
  call (name: NamesOf<Names, 'call'>, took: Took, labels?: Labels): void
  sample (name: NamesOf<Names, 'sample'>, value: number): void
  /** Asks whenever metrics are read, from now on. @param read `undefined`: of one with labels there is no value now */
  gauge (name: NamesOf<Names, 'gauge'>, read: () => number | undefined, labels?: Labels): void
}

/** Whose they are. */
export interface SpireMetricsOptions {
  readonly trustDomain: TrustDomain
  /** As in `spireRegistry`. */
  readonly hostLabel: boolean | undefined
  readonly clock: Clock
}

/**
 * A place for metrics under SPIRE's names beside our own, so that dashboards and alarms made for it go on.
 * @param beside where they are read
 * @param hostLabel whether each has the label `host`, as SPIRE's usually have
 */
export function spireRegistry (prefix: 'spire_server' | 'spire_agent', beside: Metrics, hostLabel = true): Metrics {
  const metrics = createMetrics({ prefix, ofProcess: false, labels: hostLabel ? { host: hostname() } : {} })
  beside.include(() => metrics.expose())
  return metrics
}

export function spireMetrics<Names extends SpireNames> (names: Names, registry: Metrics): SpireMetrics<Names> {
  const counters = new Map<string, Counter<string>>()
  const summaries = new Map<string, Histogram<string>>()
  const counter = (name: string, labels: readonly string[]) =>
    kept(counters, name, () => registry.counter({ name, help: helpOf(name), labels }))
  const summary = (name: string, labels: readonly string[]) =>
    kept(summaries, name, () => registry.summary({ name, help: helpOf(name), labels }))
  const labelsOf = (name: string) => names[name]?.labels ?? []
  return {
    count: (name, by = 1, labels = {}) => counter(name, labelsOf(name)).add(by, sanitized(labels)),
    call (name, { durationMs, error }, labels = {}) {
      const [known, values] = [[...labelsOf(name), 'status'], { ...sanitized(labels), status: statusOf(error) }]
      counter(name, known).add(1, values)
      summary(`${name}_elapsed_time`, known).observe(durationMs, values)
    },
    sample: (name, value) => summary(name, labelsOf(name)).observe(value, {}),
    gauge (name, read, labels = {}) {
      const values = sanitized(labels)
      registry.gauge<string>({ name, help: helpOf(name), labels: labelsOf(name) }).collectEach(() => {
        const value = read()
        return value === undefined ? [] : [[value, values]]
      })
    }
  }
}

/** Whether a name, without its prefix, is one of the table's, of what summaries add to it, or of calls. */
export function isNameOf (names: SpireNames): (name: string) => boolean {
  return name => /^(rpc|rateLimit)_/.test(name) || Object.hasOwn(names, name.replace(/_(sum|count)$/, '').replace(/_elapsed_time$/, '')) ||
    Object.hasOwn(names, name)
}

function kept<T> (known: Map<string, T>, name: string, make: () => T): T {
  const found = known.get(name) ?? make()
  known.set(name, found)
  return found
}

function helpOf (name: string): string { return `SPIRE's ${name}; see docs/metrics.md` }

/** SPIRE writes `example.org` as `example_org`. */
function sanitized (labels: Labels): Labels {
  return Object.fromEntries(Object.entries(labels).map(([name, value]) => [name, value.replaceAll(/\W+_?/g, '_')]))
}

function statusOf (error: unknown): string {
  if (error === undefined) return 'OK'
  if (error instanceof SpiffeError) return statusWord(error.row.status)
  return error instanceof RpcError ? statusWord(error.status) : 'Unknown'
}
