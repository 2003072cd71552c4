import { z } from 'zod'
import { hostPort, type ListenAddress, notOffered, parsedBy, port, text } from '../../runtime/config-schema.ts'
import { parseSpiffeId, type SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { NameFilters } from './metric-filter.ts'

/** Where metrics are read. */
export interface PrometheusConfig extends ListenAddress {
  /** Plain HTTP without. */
  readonly tls?: PrometheusTls | undefined
}

export interface PrometheusTls {
  /** Of files, or the server's or the agent's own X509-SVID. */
  readonly shown: { readonly certificatePath: string, readonly keyPath: string } | 'svid'
  /**
   * Who may read: whoever has a certificate by an authority of the file, or an X509-SVID with one of the SPIFFE IDs; everybody without.
   */
  readonly readers: { readonly caPath: string } | { readonly ids: ReadonlySet<SpiffeId> } | undefined
}

/** Of a Unix socket for datagrams. */
export interface UnixAddress { readonly path: string }

/** How what stands under SPIRE's names is told, wherever it goes. */
export interface TelemetryConfig {
  /** Instead of `spire_server` or `spire_agent`. */
  readonly metricPrefix: string | undefined
  /** Whether each has the label `host`. */
  readonly hostLabel: boolean
  /** Whether each has the label `trust_domain`. */
  readonly trustDomainLabel: boolean
  readonly filters: NameFilters
  readonly statsd: readonly ListenAddress[]
  readonly dogStatsd: ReadonlyArray<ListenAddress | UnixAddress>
  /** Whether the last hour is kept, and logged when a signal asks for it. */
  readonly inMem: boolean
}

/** Of a configuration without the block. */
export const usualTelemetry: TelemetryConfig = {
  metricPrefix: undefined, hostLabel: true, trustDomainLabel: false, statsd: [], dogStatsd: [], inMem: false,
  filters: { allowedPrefixes: [], blockedPrefixes: [], allowedLabels: undefined, blockedLabels: [] }
}

const mostSinks = 16
const mostFilters = 1_000
/** Longer than any name, shorter than a datagram. */
const longestFilter = 200

/** A list, or what stands in HCL as one block. */
function listOf<Item extends z.ZodType> (item: Item) {
  return z.preprocess(
    value => value === undefined || Array.isArray(value) ? value : [value],
    z.array(item).max(mostSinks, `must have at most ${mostSinks} entries`).default([])
  )
}

const filterList = z.array(z.string().max(longestFilter, `must have at most ${longestFilter} characters`))
  .max(mostFilters, `must have at most ${mostFilters} entries`)

const receiver = hostPort.refine(({ port }) => port > 0, 'must have a port that is not 0')
const usualDogStatsdPort = 8125
/** Of a Unix socket, in bytes: Linux's limit. */
const longestPath = 107

/** As for Datadog's clients the port may be left out. */
const dogStatsdAddress = text.transform((address, context): ListenAddress | UnixAddress => {
  const [, path] = /^unix:\/\/(\/.+)$/.exec(address) ?? []
  if (path !== undefined && Buffer.byteLength(path) <= longestPath) return { path }
  const read = receiver.safeParse(/:\d+$/.test(address) ? address : `${address}:${usualDogStatsdPort}`)
  if (read.success) return read.data
  context.addIssue(`must be host or host:port, [IPv6 address]:port, or unix:// and a path of at most ${longestPath} bytes`)
  return z.NEVER
})

const metricPrefix = text.regex(/^[A-Za-z_][\w.-]*$/, 'must begin with a letter or _ and have letters, digits, _, . and - alone')
  .max(100, 'must have at most 100 characters')
  .refine(prefix => !/^assay(_|$)/.test(prefix.replaceAll(/\W/g, '_')), 'must not begin with assay: those names are ours')

const tlsSchema = z.strictObject({
  cert_file: text.optional(),
  key_file: text.optional(),
  client_ca_file: text.optional(),
  use_spire_svid: z.boolean().default(false),
  authorized_spiffe_ids: z.array(parsedBy(parseSpiffeId)).max(mostFilters, `must have at most ${mostFilters} entries`).default([])
}).transform((tls, context): PrometheusTls => {
  const { cert_file: certificatePath, key_file: keyPath, client_ca_file: caPath, authorized_spiffe_ids: ids } = tls
  if (tls.use_spire_svid && (certificatePath !== undefined || keyPath !== undefined)) {
    context.addIssue('has cert_file and key_file or use_spire_svid, not both')
  }
  if (ids.length > 0 && caPath !== undefined) context.addIssue('has client_ca_file or authorized_spiffe_ids, not both')
  const readers = ids.length > 0 ? { ids: new Set(ids) } : caPath === undefined ? undefined : { caPath }
  if (tls.use_spire_svid) {
    if (caPath !== undefined) context.addIssue('has no client_ca_file beside use_spire_svid: name who may read in authorized_spiffe_ids')
    return { shown: 'svid', readers }
  }
  if (certificatePath === undefined || keyPath === undefined) {
    context.addIssue('must have cert_file and key_file, unless use_spire_svid is true')
    return z.NEVER
  }
  return { shown: { certificatePath, keyPath }, readers }
})

/** SPIRE's keys (spire-surface §6.4). */
export const telemetrySchema = z.strictObject({
  Prometheus: z.strictObject({ host: text.default('localhost'), port, tls: tlsSchema.optional() }).optional(),
  DogStatsd: listOf(z.strictObject({ address: dogStatsdAddress }).transform(({ address }) => address)),
  Statsd: listOf(z.strictObject({ address: receiver }).transform(({ address }) => address)),
  M3: notOffered('its protocol is not spoken; M3\'s coordinator takes what Prometheus reads here (remote write)', ['']),
  InMem: z.strictObject({}).optional(),
  MetricPrefix: metricPrefix.optional(),
  EnableTrustDomainLabel: z.boolean().default(false),
  EnableHostnameLabel: z.boolean().default(true),
  AllowedPrefixes: filterList.default([]),
  BlockedPrefixes: filterList.default([]),
  // To SPIRE an empty list is none.
  AllowedLabels: filterList.optional().transform(labels => labels?.length === 0 ? undefined : labels),
  BlockedLabels: filterList.default([])
}).transform(value => ({
  prometheus: value.Prometheus satisfies PrometheusConfig | undefined,
  telemetry: {
    metricPrefix: value.MetricPrefix,
    hostLabel: value.EnableHostnameLabel,
    trustDomainLabel: value.EnableTrustDomainLabel,
    filters: {
      allowedPrefixes: value.AllowedPrefixes, blockedPrefixes: value.BlockedPrefixes,
      allowedLabels: value.AllowedLabels, blockedLabels: value.BlockedLabels
    },
    statsd: value.Statsd,
    dogStatsd: value.DogStatsd,
    inMem: value.InMem !== undefined
  } satisfies TelemetryConfig
}))

const forSpiresNames = 'all names here are our own; it is for what a server or an agent tells under SPIRE\'s'

/** The block of programs that SPIRE's have none of: they have metrics of their own names alone, and no SVID of their own to show. */
export const ownTelemetrySchema = z.strictObject({
  Prometheus: z.strictObject({
    host: text.default('localhost'), port,
    tls: notOffered('metrics are served in plain text here; listen on localhost and put a proxy in front')
  }).transform(({ host, port }): ListenAddress => ({ host, port })).optional(),
  EnableHostnameLabel: notOffered(forSpiresNames, ['true']),
  EnableTrustDomainLabel: notOffered(forSpiresNames, ['false']),
  MetricPrefix: notOffered(forSpiresNames)
})
