import { dirname, resolve } from 'node:path'
import { z } from 'zod'
import { pluginSchemas, type ConfiguredPlugins } from '../plugins/catalog.ts'
import { type PrometheusConfig, type TelemetryConfig, telemetrySchema, usualTelemetry } from '../rpc/telemetry/telemetry-config.ts'
import { formatProblems, readConfig, type ConfigSource } from '../runtime/config-file.ts'
import {
  durationSeconds, healthChecksSchema, logFormat, logLevel, parsedBy, port, text, type HealthChecks, type LogConfig
} from '../runtime/config-schema.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { parseAgentSocket } from '../spiffe/endpoint-address.ts'
import { parseSpiffeId, pathOf, type SpiffeId, trustDomainOf } from '../spiffe/spiffe-id.ts'
import { parseTrustDomain, type TrustDomain } from '../spiffe/trust-domain.ts'
import type { KeyType } from '../x509/key-type.ts'
import { agentCatalog, type AgentPlugins } from './agent-catalog.ts'
import { type BrokerConfig, brokerConfigOf, brokerSchema } from './broker-config.ts'
import { type MeshConfig, meshConfigOf, meshSchema } from './mesh-config.ts'
import { type RegoKeyFiles, regoKeysSchema } from './rego-keys.ts'
import { spireOnlyExperiments, spireOnlyKeys } from './spire-only-keys.ts'
import { type WorkloadRateLimit, workloadRateLimitsSchema } from './workload-rate-limits.ts'

/** What `runAgent` needs; every default is filled in. */
export interface AgentConfig extends LogConfig {
  readonly trustDomain: TrustDomain
  /** `host:port`, at least one: replicas of one trust domain's server, tried in this order from a random place on. */
  readonly serverAddresses: readonly string[]
  /** Workload API and SDS. */
  readonly socketPath: string
  /** Delegated Identity, Debug and Logger; `undefined`: they are not offered. */
  readonly adminSocketPath: string | undefined
  /** Whoever has one of these may have other workloads' identities. */
  readonly authorizedDelegates: readonly SpiffeId[]
  /** The Broker API; `undefined`: it is not offered. */
  readonly broker: BrokerConfig | undefined
  readonly dataDir: string
  /** Exactly one of this, `trustBundleUrl`, `trustBundleWorkloadApi` and `insecureBootstrap`. */
  readonly trustBundlePath: string | undefined
  /** `https:`; `http:` too where it is asked for on a Unix socket. */
  readonly trustBundleUrl: string | undefined
  readonly trustBundleUnixSocket: string | undefined
  readonly trustBundleFormat: 'pem' | 'spiffe'
  /** Path of the socket of another agent, which knows the bundle. */
  readonly trustBundleWorkloadApi: string | undefined
  readonly insecureBootstrap: boolean
  /** Whether an agent whose servers are others than it knows attests as at first contact, and after how long; `undefined`: never. */
  readonly rebootstrap: { readonly mode: 'auto' | 'always', readonly delayMs: number } | undefined
  /** Secret. */
  readonly joinToken: string | undefined
  readonly joinTokenFile: string | undefined
  readonly disableSdsApi: boolean
  readonly disableWorkloadApi: boolean
  readonly allowUnauthenticatedVerifiers: boolean
  readonly allowedForeignJwtClaims: readonly string[]
  readonly workloadKeyType: Exclude<KeyType, 'rsa-4096'>
  readonly x509SvidCacheMaxSize: number
  readonly jwtSvidCacheMaxSize: number
  /** May have a fraction: `200ms` is 0.2. */
  readonly syncIntervalSeconds: number
  /** How often workloads may ask. */
  readonly rateLimits: readonly WorkloadRateLimit[]
  /** Of TLS to servers and of the Broker API: with ML-KEM or not at all. */
  readonly requirePqKem: boolean
  /** How a server that does not push is asked for entries. */
  readonly syncForm: SyncForm
  /** How long a server may take for a JWT-SVID while an older one is still good. */
  readonly jwtCacheHitTimeoutMs: number | undefined
  /** What X509-SVIDs have left when they are renewed, at the least, if they live long enough. */
  readonly availabilityTargetMs: number | undefined
  /** For how long after the last word from a server a restarted agent may serve what it kept; 0: it keeps nothing but its own identity. */
  readonly offlineMaxAgeSeconds: number
  /** Whether workloads' SVIDs and keys are kept too. */
  readonly keepWorkloadKeys: boolean
  /** Take the place of an agent that runs on the same socket. */
  readonly takeOver: boolean
  readonly sds: SdsConfig
  /** Who signs the Rego that servers push; none: it need not be signed. */
  readonly regoKeys: RegoKeyFiles
  /** `undefined`: the agent is no proxy's control plane. */
  readonly mesh: MeshConfig | undefined
  readonly plugins: ConfiguredPlugins<AgentPlugins>
  readonly prometheus: PrometheusConfig | undefined
  readonly telemetry: TelemetryConfig
  readonly healthChecks: HealthChecks | undefined
  /** Beginnings of selectors that may be logged, of callers that have no identity. */
  readonly logSelectors: readonly string[]
}

/** By revisions and what changed (SyncAuthorizedEntries), or all of them each time (GetAuthorizedEntries). */
export type SyncForm = 'changes' | 'whole'

/** SDS: names of the resources that every proxy may ask for, and how it answers. */
export interface SdsConfig {
  readonly defaultSvidName: string
  readonly defaultBundleName: string
  readonly defaultAllBundlesName: string
  readonly disableSpiffeCertValidation: boolean
  /** Refuse SDS calls without the Workload API's `workload.spiffe.io: true` (AMB-13). */
  readonly requireSecurityHeader: boolean
  /** Of each proxy: the system's roots there, for `file-root:system`. */
  readonly systemRootsFile?: string | undefined
}

const bundleSources = ['trust_bundle_path', 'trust_bundle_url', 'trust_bundle_spiffe_workload_api'] as const

const hostAndPort = z.string().regex(/^([^:\s[\]]+|\[[0-9A-Fa-f:.]+\]):\d{1,5}$/, 'must be host:port, or [IPv6 address]:port')

const cacheSize = z.int().min(1, 'must be at least 1').default(1_000)

const agentSchema = z.strictObject({
  trust_domain: parsedBy(parseTrustDomain),
  server_address: text.optional(),
  server_port: port.min(1, 'must be 1 to 65535').optional(),
  server_addresses: z.array(hostAndPort).min(1, 'must name at least one server').optional(),
  socket_path: text.default('/tmp/assay-agent/public/api.sock'),
  admin_socket_path: text.optional(),
  authorized_delegates: z.array(parsedBy(parseSpiffeId)).default([]),
  data_dir: text.default('.'),
  trust_bundle_path: text.optional(),
  trust_bundle_url: z.string().refine(isWebUrl, 'must be an https:// URL without a user in it').optional(),
  trust_bundle_unix_socket: text.optional(),
  trust_bundle_spiffe_workload_api: parsedBy(text => text === '' ? undefined : parseAgentSocket(text)).optional(),
  trust_bundle_format: z.enum(['pem', 'spiffe']).default('pem'),
  insecure_bootstrap: z.boolean().default(false),
  rebootstrap_mode: z.enum(['never', 'auto', 'always']).default('never'),
  rebootstrap_delay: durationSeconds(0).default(600),
  join_token: text.optional(),
  join_token_file: text.optional(),
  disable_sds_api: z.boolean().default(false),
  disable_workload_api: z.boolean().default(false),
  allow_unauthenticated_verifiers: z.boolean().default(false),
  allowed_foreign_jwt_claims: z.array(text).default([]),
  workload_x509_svid_key_type: z.enum(['ec-p256', 'ec-p384', 'rsa-2048']).default('ec-p256'),
  x509_svid_cache_max_size: cacheSize,
  jwt_svid_cache_max_size: cacheSize,
  offline_max_age: durationSeconds(0).default(86_400),
  keep_workload_keys: z.boolean().default(true),
  take_over: z.boolean().default(false),
  rego_keys: regoKeysSchema,
  sds: z.strictObject({
    default_svid_name: text.default('default'),
    default_bundle_name: text.default('ROOTCA'),
    default_all_bundles_name: text.default('ALL'),
    disable_spiffe_cert_validation: z.boolean().default(false),
    require_security_header: z.boolean().default(false),
    system_roots_file: text.refine(path => path.startsWith('/'), 'must be an absolute path, of the proxy\'s file system').optional()
  }).prefault({}),
  log_level: logLevel.default('info'),
  log_file: text.optional(),
  log_format: logFormat.default('json'),
  log_source_location: z.boolean().default(false),
  log_selectors: z.array(text).default([]),
  availability_target: durationSeconds(86_400_000).optional(),
  ...spireOnlyKeys,
  experimental: z.strictObject({
    sync_interval: durationSeconds(10).default(5),
    use_sync_authorized_entries: z.boolean().default(true),
    jwt_svid_cache_hit_timeout: durationSeconds(5000).refine(seconds => seconds <= 30, 'must be at most 30s').optional(),
    broker: brokerSchema.nullish(),
    require_pq_kem: z.boolean().default(false),
    ratelimit: workloadRateLimitsSchema,
    ...spireOnlyExperiments
  }).prefault({})
})

const configSchema = z.strictObject({
  agent: z.preprocess(value => value ?? {}, agentSchema),
  mesh: meshSchema.nullish(),
  plugins: z.preprocess(value => value ?? {}, z.strictObject(pluginSchemas(agentCatalog))),
  telemetry: telemetrySchema.nullish(),
  health_checks: healthChecksSchema.nullish()
}).check(({ value: { agent, mesh, plugins }, issues }) => {
  const refuse = (path: string[], message: string) => issues.push({ code: 'custom', path, message, input: undefined })
  if (mesh?.kubernetes !== undefined && !plugins.WorkloadAttestor.some(({ name }) => name === 'k8s')) {
    refuse(['mesh', 'kubernetes'], 'needs the workload attestor k8s, which knows the pods: name it in plugins')
  }
  if (agent.server_addresses === undefined) {
    if (agent.server_address === undefined) refuse(['agent', 'server_address'], 'is required unless server_addresses is set')
    if (agent.server_port === undefined) refuse(['agent', 'server_port'], 'is required unless server_addresses is set')
  } else if (agent.server_address !== undefined || agent.server_port !== undefined) {
    refuse(['agent', 'server_addresses'], 'is set beside server_address or server_port; keep one way')
  }
  const [source, second] = bundleSources.filter(key => agent[key] !== undefined)
  if (source === undefined && !agent.insecure_bootstrap) {
    refuse(['agent', 'trust_bundle_path'],
      'is required unless trust_bundle_url or trust_bundle_spiffe_workload_api is set, or insecure_bootstrap is true')
  }
  const [scheme] = agent.trust_bundle_url?.split(':', 1) ?? []
  if (agent.trust_bundle_unix_socket !== undefined && scheme !== 'http') {
    refuse(['agent', 'trust_bundle_unix_socket'], 'needs trust_bundle_url, an http:// URL: what is asked for on the socket')
  }
  if (agent.trust_bundle_unix_socket === undefined && scheme === 'http') {
    refuse(['agent', 'trust_bundle_url'], 'must be an https:// URL without a user in it')
  }
  if (second !== undefined) refuse(['agent', second], `is set beside ${source}; keep one of them`)
  if (source !== undefined && agent.insecure_bootstrap) refuse(['agent', 'insecure_bootstrap'], `must not be true when ${source} is set`)
  if (agent.trust_bundle_spiffe_workload_api === resolve(agent.socket_path)) {
    refuse(['agent', 'trust_bundle_spiffe_workload_api'], 'is this agent\'s own socket; name that of an agent that knows the bundle')
  }
  if (agent.rebootstrap_mode !== 'never' && agent.insecure_bootstrap) {
    refuse(['agent', 'rebootstrap_mode'], 'cannot be used with insecure_bootstrap: whoever takes the server\'s place would be believed')
  }
  // Who may reach workloads' socket may reach what lies beside it.
  const tooNear = (path: string | undefined) => path !== undefined && isWithin(path, dirname(resolve(agent.socket_path)))
  const elsewhere = 'must not be in the folder of socket_path, or below it'
  if (tooNear(agent.admin_socket_path)) refuse(['agent', 'admin_socket_path'], elsewhere)
  if (tooNear(agent.experimental.broker?.socket_path)) refuse(['agent', 'experimental', 'broker', 'socket_path'], elsewhere)
  for (const [index, id] of agent.authorized_delegates.entries()) {
    if (trustDomainOf(id) !== agent.trust_domain || pathOf(id) === '') {
      refuse(['agent', 'authorized_delegates', String(index)], `must be a SPIFFE ID with a path in ${agent.trust_domain}`)
    }
  }
  if (agent.join_token !== undefined && agent.join_token_file !== undefined) {
    refuse(['agent', 'join_token_file'], 'is set beside join_token; keep one of them')
  }
  const { default_svid_name: svid, default_bundle_name: bundle, default_all_bundles_name: all } = agent.sds
  if (new Set([svid, bundle, all]).size < 3) refuse(['agent', 'sds'], 'must give three different default names')
})

function isWithin (path: string, folder: string): boolean {
  return resolve(path).startsWith(folder === '/' ? '/' : `${folder}/`)
}

/** `http:` is for Unix sockets alone, which is looked at later. */
function isWebUrl (text: string): boolean {
  const url = /^https?:\/\//.test(text) && URL.canParse(text) ? new URL(text) : undefined
  return url !== undefined && url.username === '' && url.password === ''
}

/** @throws {SpiffeError} `config_invalid`, one line for each problem; `details.problems` holds them apart */
export function parseAgentConfig (source: ConfigSource): AgentConfig {
  const reading = readConfig(configSchema, source)
  if (reading.value === undefined) {
    throw new SpiffeError('config_invalid', formatProblems(reading.problems), { details: { problems: reading.problems } })
  }
  const { agent, mesh, plugins } = reading.value
  return {
    trustDomain: agent.trust_domain,
    serverAddresses: agent.server_addresses ?? [`${bracketed(agent.server_address ?? '')}:${agent.server_port}`],
    socketPath: agent.socket_path,
    adminSocketPath: agent.admin_socket_path,
    authorizedDelegates: agent.authorized_delegates,
    broker: brokerConfigOf(agent.experimental.broker ?? undefined),
    dataDir: agent.data_dir,
    trustBundlePath: agent.trust_bundle_path,
    trustBundleUrl: agent.trust_bundle_url,
    trustBundleUnixSocket: agent.trust_bundle_unix_socket,
    trustBundleFormat: agent.trust_bundle_format,
    trustBundleWorkloadApi: agent.trust_bundle_spiffe_workload_api,
    insecureBootstrap: agent.insecure_bootstrap,
    rebootstrap: agent.rebootstrap_mode === 'never' ? undefined : { mode: agent.rebootstrap_mode, delayMs: agent.rebootstrap_delay * 1000 },
    joinToken: agent.join_token,
    joinTokenFile: agent.join_token_file,
    disableSdsApi: agent.disable_sds_api,
    disableWorkloadApi: agent.disable_workload_api,
    allowUnauthenticatedVerifiers: agent.allow_unauthenticated_verifiers,
    allowedForeignJwtClaims: agent.allowed_foreign_jwt_claims,
    workloadKeyType: agent.workload_x509_svid_key_type,
    x509SvidCacheMaxSize: agent.x509_svid_cache_max_size,
    jwtSvidCacheMaxSize: agent.jwt_svid_cache_max_size,
    syncIntervalSeconds: agent.experimental.sync_interval,
    rateLimits: agent.experimental.ratelimit,
    requirePqKem: agent.experimental.require_pq_kem,
    syncForm: agent.experimental.use_sync_authorized_entries ? 'changes' : 'whole',
    jwtCacheHitTimeoutMs: inMs(agent.experimental.jwt_svid_cache_hit_timeout),
    availabilityTargetMs: inMs(agent.availability_target),
    offlineMaxAgeSeconds: agent.offline_max_age,
    keepWorkloadKeys: agent.keep_workload_keys,
    takeOver: agent.take_over,
    sds: {
      defaultSvidName: agent.sds.default_svid_name,
      defaultBundleName: agent.sds.default_bundle_name,
      defaultAllBundlesName: agent.sds.default_all_bundles_name,
      disableSpiffeCertValidation: agent.sds.disable_spiffe_cert_validation,
      requireSecurityHeader: agent.sds.require_security_header,
      systemRootsFile: agent.sds.system_roots_file
    },
    regoKeys: agent.rego_keys,
    mesh: mesh === null || mesh === undefined ? undefined : meshConfigOf(mesh),
    plugins,
    logLevel: agent.log_level,
    logFile: agent.log_file,
    logFormat: agent.log_format,
    logSourceLocation: agent.log_source_location,
    logSelectors: agent.log_selectors,
    prometheus: reading.value.telemetry?.prometheus,
    telemetry: reading.value.telemetry?.telemetry ?? usualTelemetry,
    healthChecks: reading.value.health_checks ?? undefined
  }
}

function inMs (seconds: number | undefined): number | undefined { return seconds === undefined ? undefined : seconds * 1000 }

/** An IPv6 address needs brackets before a port. */
function bracketed (host: string): string { return host.includes(':') && !host.startsWith('[') ? `[${host}]` : host }
