import type { z } from 'zod'
import { type ConfigSource, formatProblems, readConfig } from '../runtime/config-file.ts'
import type { HealthChecks, ListenAddress, LogConfig } from '../runtime/config-schema.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import { filesSchema } from './files-schema.ts'

/** Which files there are to be, all in one folder, and what is in each. */
export interface WantedFiles {
  readonly x509: { readonly svid: string, readonly key: string, readonly bundle: string } | undefined
  readonly federatedBundles: readonly { readonly trustDomain: TrustDomain, readonly fileName: string }[]
  readonly jwtSvids: readonly JwtSvidFile[]
  readonly jwtBundle: string | undefined
  readonly addIntermediatesToBundle: boolean
  readonly includeFederatedDomains: boolean
  readonly omitExpired: boolean
  readonly modes: { readonly certificate: number, readonly key: number, readonly jwtBundle: number, readonly jwtSvid: number }
}

export interface JwtSvidFile { readonly audience: readonly string[], readonly fileName: string }

/** A program that is started once the files are there. */
export interface CommandConfig {
  readonly argv: readonly [string, ...string[]]
  /** Sent when the files have changed; absent: it notices by itself. */
  readonly renewSignal: NodeJS.Signals | undefined
  /** Its end is ours, with its exit code. */
  readonly exitWithIt: boolean
  readonly stopTimeoutMs: number
}

/** A process that others started; one of `file` and `pid` is there. */
export interface SignalConfig {
  /** Its first line is the number. */
  readonly file: string | undefined
  readonly pid: number | undefined
  /** Path of what it must run. */
  readonly program: string | undefined
  readonly signal: NodeJS.Signals
}

export interface HttpReload { readonly url: URL, readonly method: 'GET' | 'POST' | 'PUT' }

/** What the program has to show once it has reloaded. */
export interface ServesConfig extends ListenAddress {
  readonly protocol: 'tls' | 'postgres'
  readonly serverName: string | undefined
  readonly withinMs: number
}

export interface FilesConfig extends LogConfig {
  /** As configured; the command line and the environment have a say. */
  readonly agentAddress: string | undefined
  readonly certDir: string
  readonly allowUnsafeCertDir: boolean
  /** Names or numbers. */
  readonly owner: { readonly user: string | number | undefined, readonly group: string | number | undefined }
  readonly files: WantedFiles
  /** Of several identities the one with this hint; the first when absent. */
  readonly hint: string | undefined
  /** After how much time without an identity the files go; absent: they stay. */
  readonly removeAfterRevokedMs: number | undefined
  /** False: they are written once. */
  readonly daemon: boolean
  readonly command: CommandConfig | undefined
  readonly signalled: SignalConfig | undefined
  readonly reload: { readonly command: readonly string[] | undefined, readonly http: HttpReload | undefined, readonly timeoutMs: number }
  readonly serves: ServesConfig | undefined
  readonly healthChecks: HealthChecks | undefined
  readonly prometheus: ListenAddress | undefined
  /** What may be meant otherwise, for people. */
  readonly warnings: readonly string[]
}

type Parsed = z.output<typeof filesSchema>

/** @throws {SpiffeError} `config_invalid`, with one line per problem */
export function parseFilesConfig (source: ConfigSource): FilesConfig {
  const { value, problems } = readConfig(filesSchema, source)
  if (problems !== undefined) throw new SpiffeError('config_invalid', `the configuration is refused\n${formatProblems(problems)}`)
  const { reload, serves, health_checks: health } = value
  return {
    agentAddress: value.agent_address,
    certDir: value.cert_dir,
    allowUnsafeCertDir: value.allow_unsafe_cert_dir,
    owner: { user: value.file_owner, group: value.file_group },
    files: wantedFilesOf(value),
    hint: value.hint,
    removeAfterRevokedMs: value.remove_after_revoked === undefined ? undefined : value.remove_after_revoked * 1_000,
    daemon: value.daemon_mode,
    command: value.cmd === undefined ? undefined : {
      argv: [value.cmd, ...value.cmd_args ?? []], renewSignal: value.renew_signal, exitWithIt: value.exit_with_cmd,
      stopTimeoutMs: value.cmd_stop_timeout * 1_000
    },
    signalled: (value.pid_file_name ?? value.pid) === undefined ? undefined : {
      file: value.pid_file_name, pid: value.pid, program: value.pid_program, signal: value.renew_signal as NodeJS.Signals
    },
    reload: { command: reload.command, http: reload.http, timeoutMs: reload.timeout * 1_000 },
    serves: serves && {
      ...serves.address, protocol: serves.protocol, serverName: serves.server_name, withinMs: serves.within * 1_000
    },
    healthChecks: health?.listener_enabled === true
      ? { host: health.bind_address, port: health.bind_port, livePath: health.liveness_path, readyPath: health.readiness_path } : undefined,
    prometheus: value.telemetry?.Prometheus,
    warnings: warningsOf(value),
    logLevel: value.log_level,
    logFile: value.log_path,
    logFormat: value.log_format,
    logSourceLocation: false
  }
}

function wantedFilesOf (value: Parsed): WantedFiles {
  const { svid_file_name: svid, svid_key_file_name: key, svid_bundle_file_name: bundle } = value
  return {
    x509: svid === undefined || key === undefined || bundle === undefined ? undefined : { svid, key, bundle },
    federatedBundles: value.federated_bundles.map(({ trust_domain: trustDomain, file_name: fileName }) => ({ trustDomain, fileName })),
    jwtSvids: value.jwt_svids.map(({ jwt_audience: first, jwt_extra_audiences: more, jwt_svid_file_name: fileName }) =>
      ({ audience: [first, ...more], fileName })),
    jwtBundle: value.jwt_bundle_file_name,
    addIntermediatesToBundle: value.add_intermediates_to_bundle,
    includeFederatedDomains: value.include_federated_domains,
    omitExpired: value.omit_expired,
    modes: {
      certificate: value.cert_file_mode, key: value.key_file_mode, jwtBundle: value.jwt_bundle_file_mode, jwtSvid: value.jwt_svid_file_mode
    }
  }
}

function warningsOf (value: Parsed): string[] {
  const warnings: string[] = []
  const reloads = [value.cmd, value.reload.command, value.reload.http, value.pid_file_name, value.pid].some(way => way !== undefined)
  if (!value.daemon_mode && (reloads || value.serves !== undefined)) {
    warnings.push('daemon_mode is false: no program is started, told or looked at')
  }
  if (value.renew_signal !== undefined && value.cmd === undefined && (value.pid_file_name ?? value.pid) === undefined) {
    warnings.push('renew_signal is sent to nobody: there is neither cmd nor pid_file_name')
  }
  if ((value.key_file_mode & 0o007) !== 0) warnings.push('key_file_mode lets every user of this machine read the private key')
  if ((value.jwt_svid_file_mode & 0o007) !== 0) warnings.push('jwt_svid_file_mode lets every user of this machine read the tokens')
  if (value.daemon_mode && reloads && value.svid_file_name === undefined) {
    warnings.push('programs are told of new X.509 files alone, and there are none: tokens are read when they are needed')
  }
  return warnings
}
