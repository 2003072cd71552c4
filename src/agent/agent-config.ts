import { z } from 'zod'
import { pluginSchemas, type ConfiguredPlugins } from '../plugins/catalog.ts'
import { formatProblems, readConfig, type ConfigSource } from '../runtime/config-file.ts'
import {
  durationSeconds, healthChecksSchema, logLevel, parsedBy, port, telemetrySchema, text, type HealthChecks, type ListenAddress
} from '../runtime/config-schema.ts'
import type { LogLevel } from '../runtime/logger.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { parseTrustDomain, type TrustDomain } from '../spiffe/trust-domain.ts'
import type { KeyType } from '../x509/key-type.ts'
import { agentCatalog, type AgentPlugins } from './agent-catalog.ts'

/** What `runAgent` needs; every default is filled in. */
export interface AgentConfig {
  readonly trustDomain: TrustDomain
  readonly serverAddress: string
  readonly serverPort: number
  /** Workload API and SDS. */
  readonly socketPath: string
  readonly dataDir: string
  /** Exactly one of this and `insecureBootstrap`. */
  readonly trustBundlePath: string | undefined
  readonly trustBundleFormat: 'pem' | 'spiffe'
  readonly insecureBootstrap: boolean
  /** Secret. */
  readonly joinToken: string | undefined
  readonly joinTokenFile: string | undefined
  readonly allowUnauthenticatedVerifiers: boolean
  readonly allowedForeignJwtClaims: readonly string[]
  readonly workloadKeyType: Exclude<KeyType, 'rsa-4096'>
  readonly x509SvidCacheMaxSize: number
  readonly jwtSvidCacheMaxSize: number
  /** May have a fraction: `200ms` is 0.2. */
  readonly syncIntervalSeconds: number
  readonly sds: SdsConfig
  readonly plugins: ConfiguredPlugins<AgentPlugins>
  readonly logLevel: LogLevel
  readonly logFile: string | undefined
  readonly prometheus: ListenAddress | undefined
  readonly healthChecks: HealthChecks | undefined
}

/** SDS: names of the resources that every proxy may ask for, and how it answers. */
export interface SdsConfig {
  readonly defaultSvidName: string
  readonly defaultBundleName: string
  readonly defaultAllBundlesName: string
  readonly disableSpiffeCertValidation: boolean
  /** Refuse SDS calls without the Workload API's `workload.spiffe.io: true` (AMB-13). */
  readonly requireSecurityHeader: boolean
}

const cacheSize = z.int().min(1, 'must be at least 1').default(1_000)

const agentSchema = z.strictObject({
  trust_domain: parsedBy(parseTrustDomain),
  server_address: text,
  server_port: port.min(1, 'must be 1 to 65535'),
  socket_path: text.default('/tmp/assay-agent/public/api.sock'),
  data_dir: text.default('.'),
  trust_bundle_path: text.optional(),
  trust_bundle_format: z.enum(['pem', 'spiffe']).default('pem'),
  insecure_bootstrap: z.boolean().default(false),
  join_token: text.optional(),
  join_token_file: text.optional(),
  allow_unauthenticated_verifiers: z.boolean().default(false),
  allowed_foreign_jwt_claims: z.array(text).default([]),
  workload_x509_svid_key_type: z.enum(['ec-p256', 'ec-p384', 'rsa-2048']).default('ec-p256'),
  x509_svid_cache_max_size: cacheSize,
  jwt_svid_cache_max_size: cacheSize,
  sds: z.strictObject({
    default_svid_name: text.default('default'),
    default_bundle_name: text.default('ROOTCA'),
    default_all_bundles_name: text.default('ALL'),
    disable_spiffe_cert_validation: z.boolean().default(false),
    require_security_header: z.boolean().default(false)
  }).prefault({}),
  log_level: logLevel.default('info'),
  log_file: text.optional(),
  experimental: z.strictObject({ sync_interval: durationSeconds(10).default(5) }).prefault({})
})

const configSchema = z.strictObject({
  agent: z.preprocess(value => value ?? {}, agentSchema),
  plugins: z.preprocess(value => value ?? {}, z.strictObject(pluginSchemas(agentCatalog))),
  telemetry: telemetrySchema.nullish(),
  health_checks: healthChecksSchema.nullish()
}).check(({ value: { agent }, issues }) => {
  const refuse = (path: string[], message: string) => issues.push({ code: 'custom', path, message, input: undefined })
  if (agent.trust_bundle_path === undefined && !agent.insecure_bootstrap) {
    refuse(['agent', 'trust_bundle_path'], 'is required unless insecure_bootstrap is true')
  }
  if (agent.trust_bundle_path !== undefined && agent.insecure_bootstrap) {
    refuse(['agent', 'insecure_bootstrap'], 'must not be true when trust_bundle_path is set')
  }
  if (agent.join_token !== undefined && agent.join_token_file !== undefined) {
    refuse(['agent', 'join_token_file'], 'is set beside join_token; keep one of them')
  }
  const { default_svid_name: svid, default_bundle_name: bundle, default_all_bundles_name: all } = agent.sds
  if (new Set([svid, bundle, all]).size < 3) refuse(['agent', 'sds'], 'must give three different default names')
})

/** @throws {SpiffeError} `config_invalid`, one line for each problem; `details.problems` holds them apart */
export function parseAgentConfig (source: ConfigSource): AgentConfig {
  const reading = readConfig(configSchema, source)
  if (reading.value === undefined) {
    throw new SpiffeError('config_invalid', formatProblems(reading.problems), { details: { problems: reading.problems } })
  }
  const { agent, plugins } = reading.value
  return {
    trustDomain: agent.trust_domain,
    serverAddress: agent.server_address,
    serverPort: agent.server_port,
    socketPath: agent.socket_path,
    dataDir: agent.data_dir,
    trustBundlePath: agent.trust_bundle_path,
    trustBundleFormat: agent.trust_bundle_format,
    insecureBootstrap: agent.insecure_bootstrap,
    joinToken: agent.join_token,
    joinTokenFile: agent.join_token_file,
    allowUnauthenticatedVerifiers: agent.allow_unauthenticated_verifiers,
    allowedForeignJwtClaims: agent.allowed_foreign_jwt_claims,
    workloadKeyType: agent.workload_x509_svid_key_type,
    x509SvidCacheMaxSize: agent.x509_svid_cache_max_size,
    jwtSvidCacheMaxSize: agent.jwt_svid_cache_max_size,
    syncIntervalSeconds: agent.experimental.sync_interval,
    sds: {
      defaultSvidName: agent.sds.default_svid_name,
      defaultBundleName: agent.sds.default_bundle_name,
      defaultAllBundlesName: agent.sds.default_all_bundles_name,
      disableSpiffeCertValidation: agent.sds.disable_spiffe_cert_validation,
      requireSecurityHeader: agent.sds.require_security_header
    },
    plugins,
    logLevel: agent.log_level,
    logFile: agent.log_file,
    prometheus: reading.value.telemetry?.Prometheus,
    healthChecks: reading.value.health_checks ?? undefined
  }
}
