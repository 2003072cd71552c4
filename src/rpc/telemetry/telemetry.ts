import { hostname } from 'node:os'
import type { Clock } from '../../runtime/clock.ts'
import { hostAndPort } from '../../runtime/host-and-port.ts'
import type { Logger } from '../../runtime/logger.ts'
import type { Metrics } from '../../runtime/metrics.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import { udpLink, unixLink } from './datagram-link.ts'
import { DatagramSender } from './datagram-sender.ts'
import { inMemorySink } from './in-memory-sink.ts'
import { metricFilter } from './metric-filter.ts'
import type { Labels, MetricSink } from './metric-sink.ts'
import { prometheusSink } from './prometheus-sink.ts'
import { dogStatsdSink, statsdSink } from './statsd-sink.ts'
import type { TelemetryConfig } from './telemetry-config.ts'

/** What a server or an agent tells under SPIRE's names goes through here to wherever its configuration says. */
export interface Telemetry {
  /** Whether it goes anywhere. */
  readonly isTold: boolean
  /** @param key without the prefix, `.` between its parts, e.g. `ca.manager.x509_ca.prepare` */
  count (key: string, by: number, labels?: Labels): void
  sample (key: string, value: number, labels?: Labels): void
  gauge (key: string, value: number, labels?: Labels): void
  /** Asks for a gauge's value from now on, whenever it is read or sent. @param read `undefined`: there is no value now */
  watch (key: string, read: () => number | undefined, labels?: Labels): void
}

export interface TelemetryDeps {
  /** Of the configuration's default. */
  readonly prefix: 'spire_server' | 'spire_agent'
  readonly trustDomain: TrustDomain
  /** Where Prometheus reads them; absent: nowhere. */
  readonly beside: Metrics | undefined
  readonly environment?: NodeJS.ProcessEnv
  /** Calls the listener when somebody asks for what is in memory, until the signal aborts; by default nobody does. */
  readonly onAsked?: ((listener: () => void, signal: AbortSignal) => void) | undefined
  readonly clock: Clock
  readonly log: Logger
}

/** Gauges that are sent are asked for so often; Datadog's agent and StatsD sum up so often by default. */
const askEveryMs = 10_000
/** The first time, when most of them are known. */
const firstAskMs = 1_000
/** Bytes in a datagram, as SPIRE sends them. */
const largestOf = { statsd: 1_400, dogStatsd: 1_432, unix: 8_192 }

/** Goes on until it is disposed of; what is left is sent then. */
export function openTelemetry (
  config: TelemetryConfig, { prefix: usualPrefix, trustDomain, beside, environment = process.env, onAsked, clock, log }: TelemetryDeps
): Telemetry & AsyncDisposable {
  const prefix = config.metricPrefix ?? usualPrefix
  const filter = metricFilter(config.filters)
  const scope = new AsyncDisposableStack()
  const sender = (to: TelemetryConfig['dogStatsd'][number], largest: number) => {
    const deps = { largest, clock, log }
    const opened = scope.use('path' in to
      ? new DatagramSender(unixLink(to.path), { ...deps, to: `unix://${to.path}`, largest: largestOf.unix })
      : new DatagramSender(udpLink(to), { ...deps, to: hostAndPort(to.host, to.port) }))
    return (line: string) => opened.push(line)
  }
  const prometheus = beside && prometheusSink(prefix, beside)
  const inMemory = config.inMem ? inMemorySink(clock) : undefined
  const pushed: readonly MetricSink[] = [
    ...inMemory === undefined ? [] : [inMemory],
    ...config.statsd.map(to => statsdSink(sender(to, largestOf.statsd))),
    ...config.dogStatsd.map(to => dogStatsdSink(sender(to, largestOf.dogStatsd), environment))
  ]
  const sinks = prometheus === undefined ? pushed : [prometheus, ...pushed]
  const ofAll: Labels = {
    ...config.trustDomainLabel ? { trust_domain: sanitized(trustDomain) } : {}, ...config.hostLabel ? { host: hostname() } : {}
  }
  const names = new Map<string, string | undefined>()
  const watched: Array<{ readonly name: string, readonly read: () => number | undefined, readonly labels: Labels }> = []

  /** @returns the whole name, or nothing where it is not told */
  function nameOf (key: string): string | undefined {
    if (names.has(key)) return names.get(key)
    const name = `${prefix}.${key}`
    const told = filter.allows(name) ? name : undefined
    names.set(key, told)
    return told
  }

  function labelsOf (labels: Labels): Labels {
    const own = Object.entries(labels).map(([label, value]) => [sanitized(label), sanitized(value)])
    return filter.labels({ ...Object.fromEntries(own), ...ofAll })
  }

  function tell (how: 'count' | 'sample' | 'gauge', key: string, value: number, labels: Labels): void {
    const name = nameOf(key)
    if (name === undefined) return
    const told = labelsOf(labels)
    for (const sink of sinks) sink[how](name, value, told)
  }

  async function askForGauges (signal: AbortSignal): Promise<void> {
    for (let ms = firstAskMs; ; ms = askEveryMs) {
      await clock.sleep(ms, signal)
      for (const { name, read, labels } of watched) {
        const value = read()
        if (value !== undefined) for (const sink of pushed) sink.gauge(name, value, labels)
      }
    }
  }

  if (pushed.length > 0) {
    const stop = new AbortController()
    if (inMemory !== undefined) onAsked?.(() => { for (const line of inMemory.dump()) log.info(line) }, stop.signal)
    const asking = askForGauges(stop.signal).catch((error: unknown) => {
      if (!stop.signal.aborted) log.error({ err: error }, 'gauges are not sent any more: this is a bug')
    })
    scope.defer(async () => {
      stop.abort()
      await asking
    })
  }
  return {
    isTold: sinks.length > 0,
    count: (key, by, labels = {}) => tell('count', key, by, labels),
    sample: (key, value, labels = {}) => tell('sample', key, value, labels),
    gauge: (key, value, labels = {}) => tell('gauge', key, value, labels),
    watch (key, read, labels = {}) {
      const name = nameOf(key)
      if (name === undefined) return
      const told = labelsOf(labels)
      prometheus?.watch(name, read, told)
      if (pushed.length > 0) watched.push({ name, read, labels: told })
    },
    [Symbol.asyncDispose]: () => scope.disposeAsync()
  }
}

/** SPIRE writes `example.org` as `example_org`. */
function sanitized (text: string): string { return text.replaceAll(/\W+_?/g, '_') }
