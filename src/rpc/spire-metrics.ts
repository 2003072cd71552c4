import type { Clock } from '../runtime/clock.ts'
import type { Took } from '../runtime/took.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import { RpcError } from './rpc-error.ts'
import { statusWord } from './status-word.ts'
import type { Telemetry } from './telemetry/telemetry.ts'

/**
 * What SPIRE tells under a name. A `call` is a counter and, as `….elapsed_time`, a summary of milliseconds, both with the label `status`
 * beside the others; a `sample` is a summary.
 */
export interface SpireName {
  readonly kind: 'call' | 'counter' | 'gauge' | 'sample'
  /** In their order. */
  readonly labels?: readonly string[]
}

/** By the name without `spire_server` or `spire_agent`, `.` between its parts. */
export type SpireNames = Readonly<Record<string, SpireName>>

export type NamesOf<Names extends SpireNames, Kind> =
  { [Name in keyof Names]: Names[Name]['kind'] extends Kind ? Name : never }[keyof Names] & string
type Labels = Readonly<Record<string, string>>

/** Tells what happened under the names of one table. As at SPIRE, a name is there from its first value on, and none without one. */
export interface SpireMetrics<Names extends SpireNames> {
  count (name: NamesOf<Names, 'counter'>, by?: number, labels?: Labels): void
  call (name: NamesOf<Names, 'call'>, took: Took, labels?: Labels): void
  sample (name: NamesOf<Names, 'sample'>, value: number): void
  /** Asks whenever metrics are read or sent, from now on. @param read `undefined`: of one with labels there is no value now */
  gauge (name: NamesOf<Names, 'gauge'>, read: () => number | undefined, labels?: Labels): void
}

/** Whose they are. */
export interface SpireMetricsOptions {
  readonly trustDomain: TrustDomain
  readonly clock: Clock
}

export function spireMetrics<Names extends SpireNames> (telemetry: Telemetry): SpireMetrics<Names> {
  return {
    count: (name, by = 1, labels = {}) => telemetry.count(name, by, labels),
    call (name, { durationMs, error }, labels = {}) {
      const all = { ...labels, status: statusOf(error) }
      telemetry.count(name, 1, all)
      telemetry.sample(`${name}.elapsed_time`, durationMs, all)
    },
    sample: (name, value) => telemetry.sample(name, value),
    gauge: (name, read, labels = {}) => telemetry.watch(name, read, labels)
  }
}

/** Whether a name with `_` between its parts, without its prefix, is one of the table's, of what summaries add to it, or of calls. */
export function isNameOf (names: SpireNames): (name: string) => boolean {
  const known = new Set(Object.keys(names).map(name => name.replaceAll('.', '_')))
  return name => /^(rpc|rateLimit)_/.test(name) || known.has(name) ||
    known.has(name.replace(/_(sum|count)$/, '').replace(/_elapsed_time$/, ''))
}

function statusOf (error: unknown): string {
  if (error === undefined) return 'OK'
  if (error instanceof SpiffeError) return statusWord(error.row.status)
  return error instanceof RpcError ? statusWord(error.status) : 'Unknown'
}
