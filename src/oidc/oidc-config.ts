import { isIP } from 'node:net'
import { z } from 'zod'
import { acmeKeys } from '../acme/acme-keys.ts'
import { ownTelemetrySchema } from '../rpc/telemetry/telemetry-config.ts'
import { type ConfigSource, formatProblems, readConfig } from '../runtime/config-file.ts'
import {
  durationSeconds, type HealthChecks, type ListenAddress, type LogConfig, logFormat, logLevel, parsedBy, port, text
} from '../runtime/config-schema.ts'
import { parseEndpointAddress } from '../spiffe/endpoint-address.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { parseTrustDomain, type TrustDomain } from '../spiffe/trust-domain.ts'
import { parseAllowedDomain } from './allowed-hosts.ts'
import type { ProviderConfig, ProviderListen } from './provider.ts'

/** What a stand-alone provider reads its keys from. */
export type KeySourceConfig =
  | { readonly kind: 'server', readonly socketPath: string, readonly pollMs: number }
  | { readonly kind: 'agent', readonly socketPath: string, readonly trustDomain: TrustDomain, readonly pollMs: number }

export interface OidcConfig extends ProviderConfig, LogConfig {
  readonly source: KeySourceConfig
}

/** Refuses a key of SPIRE's that is not offered, saying so. */
function unsupported (instead: string) {
  return z.unknown().optional().refine(value => value === undefined, `is not supported; ${instead}`)
}

const unixSocket = parsedBy(address => {
  const endpoint = parseEndpointAddress(address)
  if (endpoint.kind === 'unix') return endpoint.path
  throw new SpiffeError('endpoint_malformed', 'must be a Unix socket, such as unix:///run/assay/api.sock')
})
const pollInterval = durationSeconds(100).default(10)

/** Go's form, in which the host may be missing: `:443`. */
const listenAddress = z.string().transform((address, context) => {
  const [, ipv6, host, digits] = /^(?:\[([0-9A-Fa-f:.]+)\]|([^:\s[\]]*)):(\d{1,5})$/.exec(address) ?? []
  if (Number(digits) <= 65_535) return { host: ipv6 ?? (host === '' ? undefined : host), port: Number(digits) }
  context.addIssue('must be host:port, [IPv6 address]:port, or :port for all addresses')
  return z.NEVER
})

/** An issuer is compared letter by letter and is not repaired (OpenID Connect Discovery 1.0 §4.3). */
const absoluteUrl = z.string().regex(/^https?:\/\/[a-z0-9.-]+(:[1-9]\d{0,4})?(\/[\w.~!$&'()*+,;=:@%/-]*)?$/,
  'must be a URL such as https://oidc.example.org, without query or fragment')

const pathPrefix = z.string().regex(/^\/(?:[\w~-][\w.~-]*(?:\/[\w~-][\w.~-]*)*\/?)?$/, 'must be a path such as /oidc')
  .transform(path => path.replace(/\/$/, ''))

const portText = z.union([port, z.string().regex(/^\d{1,5}$/, 'must be 0 to 65535').transform(Number).pipe(port)])
const urlPath = z.string().regex(/^\/[\w./-]*$/, 'must be a path such as /live')
const atLeastOne = z.int().min(1, 'must be at least 1').max(1_000_000, 'must be at most 1000000')

/** SPIRE's keys (spire-surface §8.1); `limits`, `cache_max_age` and `stale_max_age` are ours. */
const servingKeys = {
  domains: z.array(parsedBy(parseAllowedDomain), 'must be a list of DNS names')
    .min(1, 'must name at least one domain').max(100, 'must name at most 100 domains'),
  jwt_issuer: absoluteUrl.optional(),
  jwks_uri: absoluteUrl.optional(),
  server_path_prefix: pathPrefix.default(''),
  set_key_use: z.boolean().default(false),
  allow_insecure_scheme: z.boolean().default(false),
  insecure_addr: listenAddress.optional(),
  listen_socket_path: text.optional(),
  serving_cert_file: z.strictObject({
    cert_file_path: text,
    key_file_path: text,
    file_sync_interval: durationSeconds(100).default(60),
    addr: listenAddress.default({ host: undefined, port: 443 })
  }).optional(),
  acme: z.strictObject({
    ...acmeKeys,
    cache_dir: text.optional(),
    ca_path: text.optional(),
    addr: listenAddress.default({ host: undefined, port: 443 })
  }).optional(),
  experimental: unsupported('there is nothing experimental here'),
  cache_max_age: durationSeconds(0).default(300),
  stale_max_age: durationSeconds(1_000).default(3_600),
  limits: z.strictObject({
    max_connections: atLeastOne.default(2_048),
    max_connections_per_address: atLeastOne.default(256),
    requests_per_second: atLeastOne.default(50)
  }).prefault({}),
  log_requests: z.boolean().default(false)
}

/** What concerns one key alone is checked before. */
function checkServing (config: Serving, context: z.RefinementCtx): void {
  const ways = (['serving_cert_file', 'acme', 'insecure_addr', 'listen_socket_path'] as const).filter(key => config[key] !== undefined)
  if (ways.length !== 1) {
    const found = ways.join(' and ') || 'none'
    context.addIssue(`must have one of serving_cert_file, acme, insecure_addr and listen_socket_path, and has ${found}`)
  }
  if (config.acme !== undefined && config.domains.some(({ name }) => isIP(name) !== 0)) {
    context.addIssue({ code: 'custom', path: ['acme'], message: 'needs names in domains, not addresses' })
  }
  if (config.allow_insecure_scheme && (config.serving_cert_file ?? config.acme) !== undefined) {
    context.addIssue({ code: 'custom', path: ['allow_insecure_scheme'], message: 'is for insecure_addr and listen_socket_path alone' })
  }
  for (const key of ['jwt_issuer', 'jwks_uri'] as const) {
    if (config[key]?.startsWith('http:') === true && !config.allow_insecure_scheme) {
      context.addIssue({ code: 'custom', path: [key], message: 'must begin with https:, unless allow_insecure_scheme' })
    }
  }
}

type Serving = z.output<z.ZodObject<typeof servingKeys>>

const pollMsOfOwn = 1_000
/** Below where the provider was started. */
const spireCacheFolder = './.acme-cache'

/** The key `oidc_discovery_provider` of a server, which publishes its own keys. */
export const embeddedOidcSchema = z.strictObject(servingKeys).superRefine((config, context) => {
  checkServing(config, context)
  // A server's working directory is nobody's choice.
  if (config.acme !== undefined && config.acme.cache_dir === undefined) {
    context.addIssue({ code: 'custom', path: ['acme', 'cache_dir'], message: 'is required' })
  }
})
  .transform((value): ProviderConfig => ({ ...servingOf(value), pollMs: pollMsOfOwn }))

/** `telemetry` and `bind_address` are ours. */
const oidcSchema = z.strictObject({
  ...servingKeys,
  server_api: z.strictObject({ address: unixSocket, poll_interval: pollInterval, experimental: unsupported('give address') }).optional(),
  workload_api: z.strictObject({
    socket_path: text, trust_domain: parsedBy(parseTrustDomain), poll_interval: pollInterval, experimental: unsupported('give socket_path')
  }).optional(),
  file: unsupported('read keys from server_api or workload_api'),
  health_checks: z.strictObject({
    bind_address: text.default('localhost'),
    bind_port: portText.default(8_008),
    ready_path: urlPath.default('/ready'),
    live_path: urlPath.default('/live')
  }).optional(),
  telemetry: ownTelemetrySchema.optional(),
  log_level: logLevel.default('info'),
  log_format: logFormat.default('json'),
  log_path: text.optional()
}).superRefine((config, context) => {
  checkServing(config, context)
  const sources = (['server_api', 'workload_api'] as const).filter(key => config[key] !== undefined)
  if (sources.length !== 1) context.addIssue(`must have one of server_api and workload_api, and has ${sources.join(' and ') || 'none'}`)
})

type Parsed = z.output<typeof oidcSchema>

/** @throws {SpiffeError} `config_invalid`, with one line per problem */
export function parseOidcConfig (source: ConfigSource): OidcConfig {
  const { value, problems } = readConfig(oidcSchema, source)
  if (problems !== undefined) throw new SpiffeError('config_invalid', `the configuration is refused\n${formatProblems(problems)}`)
  const keySource = sourceOf(value)
  return {
    ...servingOf(value),
    pollMs: keySource.pollMs,
    source: keySource,
    healthChecks: healthOf(value),
    prometheus: value.telemetry?.Prometheus satisfies ListenAddress | undefined,
    logLevel: value.log_level,
    logFile: value.log_path,
    logFormat: value.log_format,
    logSourceLocation: false
  }
}

function servingOf (value: Serving): Omit<ProviderConfig, 'pollMs'> {
  return {
    domains: value.domains,
    jwtIssuer: value.jwt_issuer,
    jwksUri: value.jwks_uri,
    pathPrefix: value.server_path_prefix,
    allowInsecureScheme: value.allow_insecure_scheme,
    cacheMaxSeconds: value.cache_max_age,
    setKeyUse: value.set_key_use,
    listen: listenOf(value),
    limits: {
      maxConnections: value.limits.max_connections,
      maxConnectionsPerAddress: value.limits.max_connections_per_address,
      requestsPerSecond: value.limits.requests_per_second
    },
    staleMaxMs: value.stale_max_age * 1_000,
    logRequests: value.log_requests
  }
}

function listenOf (
  { domains, serving_cert_file: files, acme, insecure_addr: insecure, listen_socket_path: path }: Serving
): ProviderListen {
  if (files !== undefined) {
    const { cert_file_path: certificatePath, key_file_path: keyPath, file_sync_interval: everySeconds, addr } = files
    return { kind: 'tls', ...addr, certificate: { kind: 'files', files: { certificatePath, keyPath }, everyMs: everySeconds * 1_000 } }
  }
  if (acme !== undefined) {
    const { directory_url: directoryUrl, email, ca_path: caPath, cache_dir: folder = spireCacheFolder, addr } = acme
    const domainNames = [...new Set(domains.map(({ name }) => name))]
    return { kind: 'tls', ...addr, certificate: { kind: 'acme', acme: { directoryUrl, domainNames, email, caPath, folder } } }
  }
  return insecure === undefined ? { kind: 'unix', path: path as string } : { kind: 'insecure', ...insecure }
}

function sourceOf ({ server_api: server, workload_api: agent }: Parsed): KeySourceConfig {
  if (server !== undefined) return { kind: 'server', socketPath: server.address, pollMs: server.poll_interval * 1_000 }
  const { socket_path: socketPath, trust_domain: trustDomain, poll_interval: seconds } = agent as NonNullable<Parsed['workload_api']>
  return { kind: 'agent', socketPath, trustDomain, pollMs: seconds * 1_000 }
}

function healthOf ({ health_checks: checks }: Parsed): HealthChecks | undefined {
  if (checks === undefined) return undefined
  return { host: checks.bind_address, port: checks.bind_port, livePath: checks.live_path, readyPath: checks.ready_path }
}
