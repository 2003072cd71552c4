import { z } from 'zod'
import { type ConfigSource, formatProblems, readConfig } from '../runtime/config-file.ts'
import { type HealthChecks, type ListenAddress, type LogConfig, logFormat, logLevel, parsedBy, text } from '../runtime/config-schema.ts'
import { parseDuration } from '../runtime/duration.ts'
import { checkEntryId } from '../spiffe/entry-id.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { parseTrustDomain } from '../spiffe/trust-domain.ts'
import type { Scope } from './desired/desired-state.ts'
import type { ResourceKind } from './resources/resource.ts'
import { parseTemplate } from '../golang/template/parse-template.ts'
import { parentFields } from './kubernetes/template-fields.ts'

export interface ControllerConfig extends LogConfig {
  readonly scope: Scope
  readonly entryIdPrefix: string
  readonly fullEveryMs: number
  /** Path of the server's admin socket; undefined: what the command line or the environment says. */
  readonly serverSocketPath: string | undefined
  readonly kubeConfigFile: string | undefined
  readonly lease: {
    readonly namespace: string
    readonly name: string
    readonly durationMs: number
    readonly renewDeadlineMs: number
    readonly retryMs: number
  }
  readonly prometheus: ListenAddress | undefined
  readonly healthChecks: HealthChecks | undefined
}

/** As spire-controller-manager's; the namespaces of what runs the cluster itself. */
const defaultIgnored = ['kube-system', 'kube-public', 'spire-system']
const defaultParentId = 'spiffe://{{ .TrustDomain }}/spire/agent/k8s_psat/{{ .ClusterName }}/{{ .NodeMeta.UID }}'

/** A duration as Go writes it, or as Go's own configuration has it in JSON, in nanoseconds. @returns milliseconds */
function duration (minimumMs: number) {
  return z.union([z.string(), z.int()]).transform((value, context) => {
    const ms = typeof value === 'number' ? value / 1e6 : parseDuration(value)
    if (ms !== undefined && ms >= minimumMs) return ms
    context.addIssue(`must be a duration such as 30s or 5m, and at least ${minimumMs} ms`)
    return z.NEVER
  })
}

/** Go's form, in which the host may be missing: `:8082`; `0` switches off. */
const bindAddress = z.string().transform((address, context): ListenAddress | undefined => {
  if (address === '0') return undefined
  const [, ipv6, host, port] = /^(?:\[([0-9A-Fa-f:.]+)\]|([^:\s[\]]*)):(\d{1,5})$/.exec(address) ?? []
  if (Number(port) <= 65_535) return { host: ipv6 ?? (host || '::'), port: Number(port) }
  context.addIssue('must be host:port, [IPv6 address]:port, :port for all addresses, or 0')
  return z.NEVER
})

/** Of Go's syntax, which is JavaScript's for the names of namespaces. */
const namespacePattern = parsedBy(pattern => {
  try {
    return new RegExp(pattern)
  } catch {
    throw new SpiffeError('config_invalid', 'is no regular expression')
  }
})

/** It is part of agents' IDs. */
const pathSegment = z.string()
  .regex(/^(?!\.{1,2}$)[A-Za-z0-9._-]{1,63}$/, 'must be 1 to 63 of A-Z a-z 0-9 . _ -, as it is part of agents\' IDs')

/** Not offered: a manifest that relies on it should not seem to work. */
function refused (instead: string) {
  return z.unknown().optional().refine(value => value === undefined, `is not supported; ${instead}`)
}

/** For what is about Go's libraries alone. */
const ignored = z.unknown().optional()

/** spire-controller-manager's keys; `kubeConfigFile` is ours. */
const schema = z.strictObject({
  apiVersion: z.literal('spire.spiffe.io/v1alpha1').optional(),
  kind: z.literal('ControllerManagerConfig').optional(),
  metadata: ignored,
  clusterName: pathSegment,
  clusterDomain: z.string().regex(/^[a-z0-9.-]*$/, 'must be a DNS name such as cluster.local').default('cluster.local'),
  trustDomain: parsedBy(parseTrustDomain),
  ignoreNamespaces: z.array(namespacePattern).default(() => defaultIgnored.map(name => new RegExp(name))),
  gcInterval: duration(1_000).default(120_000),
  spireServerSocketPath: text.optional(),
  kubeConfigFile: text.optional(),
  className: z.string().regex(/^[A-Za-z0-9._-]*$/, 'must be of A-Z a-z 0-9 . _ -').default(''),
  watchClassless: z.boolean().default(false),
  parentIDTemplate: text.default(defaultParentId).pipe(parsedBy(template => parseTemplate(template, parentFields))),
  reconcile: z.strictObject({
    clusterSPIFFEIDs: z.boolean().default(false),
    clusterStaticEntries: z.boolean().default(false),
    clusterFederatedTrustDomains: z.boolean().default(false)
  }).optional(),
  entryIDPrefix: z.string().min(1, 'must not be empty: entries without an owner would be everybody\'s').max(200)
    .pipe(parsedBy(checkEntryId)).optional(),
  entryIDPrefixCleanup: refused('remove such entries with `assay entry delete`'),
  staticManifestPath: refused('apply the manifests to a cluster, or use `assay entry create -data`'),
  expandEnvStaticManifests: ignored,
  enableEntryRenderCache: ignored,
  entryRenderCacheSize: ignored,
  validatingWebhookConfigurationName: ignored,
  webhook: ignored,
  grpc: ignored,
  syncPeriod: ignored,
  cacheNamespace: refused('use ignoreNamespaces'),
  cacheNamespaces: refused('use ignoreNamespaces'),
  gracefulShutDown: ignored,
  controller: ignored,
  leaderElection: z.strictObject({
    leaderElect: z.boolean().optional(),
    resourceLock: z.literal('leases').optional(),
    resourceName: z.string().regex(/^[a-z0-9][a-z0-9.-]*$/, 'must be the name of a Lease').max(253).optional(),
    resourceNamespace: z.string().regex(/^[a-z0-9][a-z0-9-]*$/, 'must be a namespace').max(63).default('default'),
    leaseDuration: duration(1_000).default(15_000),
    renewDeadline: duration(500).default(10_000),
    retryPeriod: duration(100).default(2_000)
  }).prefault({}).check(({ value, issues }) => {
    if (value.retryPeriod < value.renewDeadline && value.renewDeadline < value.leaseDuration) return
    issues.push({ code: 'custom', path: [], message: 'needs retryPeriod < renewDeadline < leaseDuration', input: undefined })
  }),
  metrics: z.strictObject({ bindAddress: bindAddress.optional() }).prefault({}),
  health: z.strictObject({
    healthProbeBindAddress: bindAddress.optional(),
    readinessEndpointName: z.string().regex(/^\/[\w./-]*$/, 'must be a path such as /readyz').default('/readyz'),
    livenessEndpointName: z.string().regex(/^\/[\w./-]*$/, 'must be a path such as /healthz').default('/healthz')
  }).prefault({}),
  logLevel: logLevel.default('info'),
  /** `console` is spire-controller-manager's word for text. */
  logEncoding: z.string().transform(name => name === 'console' ? 'text' : name).pipe(logFormat).default('json')
}).check(({ value, issues }) => {
  if (value.entryIDPrefix !== undefined || !value.className.includes('.')) return
  // Cluster `prod.eu` with class `x` has the prefix of cluster `prod` with class `eu.x`: each would delete the other's entries.
  const message = 'must have no dot unless entryIDPrefix is set: the usual prefix could be that of another cluster\'s controller'
  issues.push({ code: 'custom', path: ['className'], message, input: undefined })
})

/** @throws {SpiffeError} `config_invalid`, with one line per problem */
export function parseControllerConfig (source: ConfigSource): ControllerConfig {
  const { value, problems } = readConfig(schema, source)
  if (problems !== undefined) throw new SpiffeError('config_invalid', `the configuration is refused\n${formatProblems(problems)}`)
  const { leaderElection: election, health } = value
  const address = health.healthProbeBindAddress
  return {
    scope: scopeOf(value),
    // The class may be empty, so that no controller's prefix begins another one's.
    entryIdPrefix: value.entryIDPrefix === undefined
      ? `assay-controller.${value.clusterName}.${value.className}.`
      : value.entryIDPrefix.replace(/\.?$/, '.'),
    fullEveryMs: value.gcInterval,
    serverSocketPath: value.spireServerSocketPath,
    kubeConfigFile: value.kubeConfigFile,
    lease: {
      namespace: election.resourceNamespace,
      name: election.resourceName ?? ['assay-controller', value.className].filter(Boolean).join('-').toLowerCase().replaceAll('_', '-'),
      durationMs: election.leaseDuration,
      renewDeadlineMs: election.renewDeadline,
      retryMs: election.retryPeriod
    },
    prometheus: value.metrics.bindAddress,
    healthChecks: address && { ...address, livePath: health.livenessEndpointName, readyPath: health.readinessEndpointName },
    logLevel: value.logLevel,
    logFile: undefined,
    logFormat: value.logEncoding,
    logSourceLocation: false
  }
}

function scopeOf (value: z.output<typeof schema>): Scope {
  const { trustDomain, clusterName, clusterDomain, parentIDTemplate: parentId, ignoreNamespaces, className, watchClassless } = value
  const chosen = value.reconcile ?? { clusterSPIFFEIDs: true, clusterStaticEntries: true, clusterFederatedTrustDomains: true }
  const kinds = new Set<ResourceKind>()
  if (chosen.clusterSPIFFEIDs) kinds.add('ClusterSPIFFEID')
  if (chosen.clusterStaticEntries) kinds.add('ClusterStaticEntry')
  if (chosen.clusterFederatedTrustDomains) kinds.add('ClusterFederatedTrustDomain')
  return {
    naming: { trustDomain, clusterName, clusterDomain, parentId },
    // Anchored nowhere, as in spire-controller-manager: `kube-system` ignores `my-kube-system` too.
    ignores: namespace => ignoreNamespaces.some(pattern => pattern.test(namespace)),
    cares: ({ className: other }) => other === className || (other === '' && watchClassless),
    kinds
  }
}
