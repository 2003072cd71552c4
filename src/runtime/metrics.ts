import type { IncomingMessage, Server, ServerOptions, ServerResponse } from 'node:http'
import { Counter as PromCounter, Gauge as PromGauge, Histogram as PromHistogram, Registry, Summary as PromSummary } from 'prom-client'
import type { Logger } from './logger.ts'

export interface MetricOptions<Label extends string> {
  /** Without the prefix. Counters end in `_total`, durations in `_seconds`. */
  readonly name: string
  readonly help: string
  readonly labels?: readonly Label[]
}

type LabelValues<Label extends string> = Readonly<Record<Label, string>>
/** Labels are not given for a metric that has none. */
type Value<Label extends string> = [Label] extends [never] ? [value: number] : [value: number, labels: LabelValues<Label>]
type Step<Label extends string> = [Label] extends [never] ? [by?: number] : [by: number, labels: LabelValues<Label>]

export interface Counter<Label extends string = never> {
  add (...step: Step<Label>): void
}

export interface Gauge<Label extends string = never> {
  set (...value: Value<Label>): void
  add (...step: Step<Label>): void
  /** Asks for the value whenever metrics are read, instead of being told; for a gauge without labels. */
  collect (read: () => number): void
  /** The same for one with labels: series that are not named any more are gone. */
  collectEach (read: () => Iterable<readonly [value: number, labels: LabelValues<Label>]>): void
}

export interface Histogram<Label extends string = never> {
  observe (...value: Value<Label>): void
}

export interface Metrics {
  counter<Label extends string = never> (options: MetricOptions<Label>): Counter<Label>
  /** @param options.collect as the method of the gauge */
  gauge<Label extends string = never> (options: MetricOptions<Label> & { readonly collect?: () => number }): Gauge<Label>
  /** @param options.buckets upper bounds, ascending; by default those for durations in seconds, 0.5 ms to 10 s */
  histogram<Label extends string = never> (options: MetricOptions<Label> & { readonly buckets?: readonly number[] }): Histogram<Label>
  /** Quantiles 0.5, 0.9 and 0.99 of about the last minute, as SPIRE tells durations. */
  summary<Label extends string = never> (options: MetricOptions<Label>): Histogram<Label>
  /** Asks for more whenever metrics are read: whole metrics in the Prometheus text format, with all of their names. */
  include (read: () => Promise<string>): void
  /** The Prometheus text format. */
  expose (): Promise<string>
}

export const expositionType = 'text/plain; version=0.0.4; charset=utf-8'
const durationBuckets = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]

/**
 * @param options.prefix put before each name with an underscore, e.g. `assay_agent`
 * @param options.ofProcess whether those of the process are among them, as is usual
 * @param options.labels that each of them has; none by default
 */
export function createMetrics ({ prefix, ofProcess = true, labels }: {
  readonly prefix: string, readonly ofProcess?: boolean, readonly labels?: Readonly<Record<string, string>>
}): Metrics {
  const registry = new Registry()
  if (labels !== undefined) registry.setDefaultLabels(labels)
  const readers: Array<() => void> = []
  const included: Array<() => Promise<string>> = []
  const settings = <Label extends string>({ name, help, labels = [] }: MetricOptions<Label>) => (
    { name: `${prefix}_${name}`, help, labelNames: [...labels] as string[], registers: [registry] }
  )
  const metrics: Metrics = {
    counter (options) {
      const counter = new PromCounter(settings(options))
      return { add: (...[by = 1, labels]) => counter.inc(labels ?? {}, by) }
    },
    gauge (options) {
      const gauge = new PromGauge(settings(options))
      const collect = (read: () => number) => { readers.push(() => gauge.set(read())) }
      if (options.collect !== undefined) collect(options.collect)
      return {
        set: (...[value, labels]) => gauge.set(labels ?? {}, value),
        add: (...[by = 1, labels]) => gauge.inc(labels ?? {}, by),
        collect,
        collectEach: read => {
          readers.push(() => {
            gauge.reset()
            for (const [value, labels] of read()) gauge.set(labels, value)
          })
        }
      }
    },
    histogram (options) {
      const histogram = new PromHistogram({ ...settings(options), buckets: [...options.buckets ?? durationBuckets] })
      return { observe: (...[value, labels]) => histogram.observe(labels ?? {}, value) }
    },
    summary (options) {
      const summary = new PromSummary({ ...settings(options), percentiles: [0.5, 0.9, 0.99], maxAgeSeconds: 60, ageBuckets: 5 })
      return { observe: (...[value, labels]) => summary.observe(labels ?? {}, value) }
    },
    include (read) { included.push(read) },
    async expose () {
      for (const read of readers) read()
      return (await Promise.all([registry.metrics(), ...included.map(read => read())])).join('')
    }
  }
  if (ofProcess) addProcessMetrics(metrics)
  return metrics
}

/** The same for a part of a program, whose word stands before each of its names: `oidc` makes `assay_server_oidc_keys` of `keys`. */
export function metricsOfPart (metrics: Metrics, word: string): Metrics {
  const named = <Options extends { readonly name: string }>(options: Options) => ({ ...options, name: `${word}_${options.name}` })
  return {
    ...metrics,
    counter: options => metrics.counter(named(options)),
    gauge: options => metrics.gauge(named(options)),
    histogram: options => metrics.histogram(named(options)),
    summary: options => metrics.summary(named(options))
  }
}

export interface ServeMetricsOptions {
  readonly host: string
  /** 0 lets the system choose; see `onListening`. */
  readonly port: number
  readonly onListening?: (port: number) => void
  /** Makes a server that speaks TLS; plain HTTP by default. */
  readonly createServer?: ((options: ServerOptions) => Server) | undefined
  /** Asked about each request, whose connection was let in; whoever may not is answered 403. */
  readonly mayRead?: ((request: IncomingMessage) => boolean) | undefined
}

/** Answers `GET /metrics` until the signal aborts. Rejects with the system's error when it cannot listen. */
export async function serveMetrics (metrics: Metrics, options: ServeMetricsOptions, log: Logger, signal: AbortSignal): Promise<void> {
  const { host, port, onListening, mayRead } = options
  // Importing it loads Node's other HTTP client too, which is not for programs whose metrics are read in another way.
  const createServer = options.createServer ?? (await import('node:http')).createServer
  if (signal.aborted) return
  const server = createServer({
    maxHeaderSize: 8192,
    headersTimeout: 5_000,
    requestTimeout: 10_000,
    // Else idle connections, of which few are let in, would keep everybody out for half a minute.
    connectionsCheckingInterval: 1_000,
    keepAliveTimeout: 65_000
  })
  server.maxConnections = 64
  server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    answer(metrics, request, response, mayRead?.(request) ?? true).catch((error: unknown) => {
      log.error({ err: error }, 'metrics could not be read')
      if (!response.headersSent) response.writeHead(500, { connection: 'close' })
      response.end()
    })
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.once('close', resolve)
    server.listen({ host, port }, () => {
      const address = server.address()
      const bound = typeof address === 'object' && address !== null ? address.port : port
      log.info({ address: `${host}:${bound}`, tls: options.createServer !== undefined }, 'serving metrics')
      onListening?.(bound)
    })
    signal.addEventListener('abort', () => { server.close(); server.closeAllConnections() }, { once: true })
  })
}

async function answer (
  metrics: Metrics, { method, url }: IncomingMessage, response: ServerResponse, mayRead: boolean
): Promise<void> {
  if (!mayRead) return refuse(403)
  if (url?.split('?', 1)[0] !== '/metrics') return refuse(404)
  if (method !== 'GET' && method !== 'HEAD') return refuse(405)
  const body = await metrics.expose()
  response.writeHead(200, { 'content-type': expositionType, 'content-length': Buffer.byteLength(body) })
  response.end(method === 'HEAD' ? undefined : body)

  /** Closes, so that a body nobody reads does not keep the connection busy. */
  function refuse (status: 403 | 404 | 405): void {
    response.writeHead(status, { connection: 'close', ...(status === 405 ? { allow: 'GET, HEAD' } : {}) })
    response.end()
  }
}

function addProcessMetrics (metrics: Metrics): void {
  metrics.gauge({ name: 'process_resident_memory_bytes', help: 'Resident memory' }).collect(() => process.memoryUsage.rss())
  metrics.gauge({ name: 'process_heap_bytes', help: 'Used JavaScript heap' }).collect(() => process.memoryUsage().heapUsed)
  metrics.gauge({ name: 'process_cpu_seconds', help: 'User and system CPU since the start' }).collect(() => {
    const { user, system } = process.cpuUsage()
    return (user + system) / 1e6
  })
}
