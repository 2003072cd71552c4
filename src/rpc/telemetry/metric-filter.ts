import type { Labels } from './metric-sink.ts'

/** Which names and labels are told, as SPIRE's library has it: all of them, unless something says otherwise. */
export interface NameFilters {
  /** Beginnings of whole names with `.` between their parts, e.g. `spire_server.rpc`; they need not end where a part does. */
  readonly allowedPrefixes: readonly string[]
  /** The longest beginning that fits a name decides; of two that are the same, this one. */
  readonly blockedPrefixes: readonly string[]
  /** Absent: all but those that are blocked. */
  readonly allowedLabels: readonly string[] | undefined
  readonly blockedLabels: readonly string[]
}

export interface MetricFilter {
  /** @param name with its prefix */
  allows (name: string): boolean
  /** @returns those that are told, in their order */
  labels (labels: Labels): Labels
}

export function metricFilter ({ allowedPrefixes, blockedPrefixes, allowedLabels, blockedLabels }: NameFilters): MetricFilter {
  const rules = new Map(allowedPrefixes.map(prefix => [prefix, true]))
  for (const prefix of blockedPrefixes) rules.set(prefix, false)
  const longestFirst = [...rules].toSorted(([a], [b]) => b.length - a.length)
  const [allowed, blocked] = [allowedLabels && new Set(allowedLabels), new Set(blockedLabels)]
  const allNames = longestFirst.length === 0
  const allLabels = allowed === undefined && blocked.size === 0
  return {
    allows: name => allNames || (longestFirst.find(([prefix]) => name.startsWith(prefix))?.[1] ?? true),
    labels: labels => allLabels
      ? labels
      : Object.fromEntries(Object.entries(labels).filter(([label]) => !blocked.has(label) && (allowed?.has(label) ?? true)))
  }
}
