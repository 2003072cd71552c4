import { constants } from 'node:os'
import { z } from 'zod'
import { ownTelemetrySchema } from '../rpc/telemetry/telemetry-config.ts'
import { durationSeconds, hostPort, logFormat, logLevel, parsedBy, port, text } from '../runtime/config-schema.ts'
import { nearestWord } from '../runtime/nearest-word.ts'
import { parseTrustDomain } from '../spiffe/trust-domain.ts'
import { splitArguments } from './command-line.ts'

const mostTokens = 100

/** spiffe-helper's files often have `""` for what they do not want. */
function orEmpty<Schema extends z.ZodType> (schema: Schema) {
  return z.preprocess(value => value === '' ? undefined : value, schema.optional()).optional()
}

/** Beside the links of a set there are folders whose names begin with two dots. */
const fileName = text.max(200, 'must be at most 200 characters')
  .refine(name => !name.includes('/') && !name.includes('\0') && name !== '.' && !name.startsWith('..'),
    'must be the name of a file in cert_dir, and must not begin with two dots')

/** The same digits without quotes are another number in YAML. */
const modeRule = 'must be three octal digits in quotes, such as "0600"'
const fileMode = z.string(modeRule).regex(/^(?:0o?)?[0-7]{3}$/, modeRule).transform(digits => Number.parseInt(digits.slice(-3), 8))
  .refine(mode => (mode & 0o111) === 0, 'must not make a file executable')

const signalName = z.string().transform((name, context) => {
  const signals = Object.keys(constants.signals)
  if (signals.includes(name) && name !== 'SIGKILL' && name !== 'SIGSTOP') return name as NodeJS.Signals
  const nearest = nearestWord(name, signals)
  context.addIssue(`must be the name of a signal, such as SIGHUP${nearest === undefined ? '' : `; did you mean ${nearest}?`}`)
  return z.NEVER
})

/** A union would not say what is wrong. */
const commandArguments = z.unknown().transform((value, context): readonly string[] => {
  try {
    if (typeof value === 'string') return splitArguments(value)
    if (Array.isArray(value) && value.every(argument => typeof argument === 'string')) return value
    context.addIssue('must be a text or a list of texts')
  } catch (error) {
    context.addIssue((error as Error).message)
  }
  return z.NEVER
})

const owner = z.union([z.int().min(0, 'must not be negative'), text.regex(/^[\w.-]+$/, 'must be a name or a number')])
const argv = z.array(z.string(), 'must be a list: a program and its arguments').min(1, 'must name a program')
  .refine(([program]) => program !== '', 'must name a program')
const urlPath = z.string().regex(/^\/[\w./-]*$/, 'must be a path such as /live')

const httpUrl = z.string().transform((url, context) => {
  if (URL.canParse(url) && /^https?:\/\//.test(url) && new URL(url).username === '' && new URL(url).password === '') return new URL(url)
  context.addIssue('must be a URL that begins with http:// or https://, without a user')
  return z.NEVER
})

/** The names of spiffe-helper's keys and their meaning (spire-surface §8.3); those below `ours` are not its. */
export const filesSchema = z.strictObject({
  agent_address: orEmpty(text),
  cert_dir: text,
  svid_file_name: orEmpty(fileName),
  svid_key_file_name: orEmpty(fileName),
  svid_bundle_file_name: orEmpty(fileName),
  add_intermediates_to_bundle: z.boolean().default(false),
  include_federated_domains: z.boolean().default(false),
  omit_expired: z.boolean().default(false),
  hint: orEmpty(text),
  jwt_svids: z.array(z.strictObject({
    jwt_audience: text, jwt_extra_audiences: z.array(text).default([]), jwt_svid_file_name: fileName
  }), 'must be a list: jwt_svids = [{ … }]').max(mostTokens, `must have at most ${mostTokens} entries`).default([]),
  jwt_bundle_file_name: orEmpty(fileName),
  cert_file_mode: fileMode.default(0o644),
  key_file_mode: fileMode.default(0o600),
  jwt_bundle_file_mode: fileMode.default(0o600),
  jwt_svid_file_mode: fileMode.default(0o600),
  daemon_mode: z.boolean().default(true),
  cmd: orEmpty(text),
  cmd_args: commandArguments.optional(),
  pid_file_name: orEmpty(text),
  renew_signal: orEmpty(signalName),
  health_checks: z.strictObject({
    listener_enabled: z.boolean().default(false),
    bind_address: text.default('0.0.0.0'),
    bind_port: port.default(8_081),
    liveness_path: urlPath.default('/live'),
    readiness_path: urlPath.default('/ready')
  }).optional(),

  // Ours.
  allow_unsafe_cert_dir: z.boolean().default(false),
  file_owner: owner.optional(),
  file_group: owner.optional(),
  federated_bundles: z.array(z.strictObject({ trust_domain: parsedBy(parseTrustDomain), file_name: fileName }))
    .max(mostTokens, `must have at most ${mostTokens} entries`).default([]),
  remove_after_revoked: durationSeconds(0).optional(),
  exit_with_cmd: z.boolean().default(false),
  cmd_stop_timeout: durationSeconds(100).default(30),
  pid: z.int().min(2, 'must be the number of a process').optional(),
  pid_program: text.optional(),
  reload: z.strictObject({
    command: argv.optional(),
    http: z.strictObject({ url: httpUrl, method: z.enum(['GET', 'POST', 'PUT']).default('POST') }).optional(),
    timeout: durationSeconds(100).default(10)
  }).prefault({}),
  serves: z.strictObject({
    address: hostPort,
    protocol: z.enum(['tls', 'postgres']).default('tls'),
    server_name: text.optional(),
    within: durationSeconds(100).default(30)
  }).optional(),
  telemetry: ownTelemetrySchema.optional(),
  log_level: logLevel.default('info'),
  log_format: logFormat.default('json'),
  log_path: text.optional()
}).superRefine((config, context) => {
  const refuse = (key: keyof typeof config, message: string) => context.addIssue({ code: 'custom', path: [key], message })
  const x509 = (['svid_file_name', 'svid_key_file_name', 'svid_bundle_file_name'] as const)
  const missing = x509.filter(key => config[key] === undefined)
  if (missing.length > 0 && missing.length < x509.length) {
    context.addIssue(`must have all of ${x509.join(', ')} or none; ${missing.join(', ')} is missing`)
  }
  const names = fileNamesOf(config)
  if (names.length === 0) context.addIssue('names no file: svid_file_name with its key and bundle, jwt_svids or jwt_bundle_file_name')
  const twice = names.find((name, index) => names.indexOf(name) !== index)
  if (twice !== undefined) context.addIssue(`names one file twice: ${twice}`)
  if (config.pid_file_name !== undefined && config.renew_signal === undefined) refuse('pid_file_name', 'needs renew_signal')
  if (config.pid !== undefined && config.pid_file_name !== undefined) refuse('pid', 'cannot stand beside pid_file_name')
  if (config.pid !== undefined && config.renew_signal === undefined) refuse('pid', 'needs renew_signal')
  if (config.pid !== undefined && config.pid_program === undefined) {
    refuse('pid', 'needs pid_program: the number alone could be another process\'s one day')
  }
  if (config.pid_program !== undefined && (config.pid_file_name ?? config.pid) === undefined) refuse('pid_program', 'needs pid_file_name')
  if (config.pid_file_name !== undefined && !config.daemon_mode) refuse('pid_file_name', 'needs daemon_mode')
  if (config.exit_with_cmd && config.cmd === undefined) refuse('exit_with_cmd', 'needs cmd')
  if ((config.cmd_args ?? []).length > 0 && config.cmd === undefined) refuse('cmd_args', 'needs cmd')
  if (missing.length > 0 && config.serves !== undefined) refuse('serves', 'needs svid_file_name')
  if (missing.length > 0 && config.federated_bundles.length > 0) refuse('federated_bundles', 'needs svid_file_name')
})

type Parsed = z.output<typeof filesSchema>

/** Every file that a configuration asks for, in no order that matters. */
function fileNamesOf (config: Pick<
  Parsed,
  'svid_file_name' | 'svid_key_file_name' | 'svid_bundle_file_name' | 'jwt_bundle_file_name' | 'jwt_svids' | 'federated_bundles'
>): string[] {
  return [
    config.svid_file_name, config.svid_key_file_name, config.svid_bundle_file_name, config.jwt_bundle_file_name,
    ...config.jwt_svids.map(({ jwt_svid_file_name: name }) => name),
    ...config.federated_bundles.map(({ file_name: name }) => name)
  ].filter(name => name !== undefined)
}
