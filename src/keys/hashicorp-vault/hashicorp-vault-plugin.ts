import { readFile } from 'node:fs/promises'
import { z } from 'zod'
import type { Plugin } from '../../plugins/plugin.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { KeyManager } from '../key-manager.ts'
import { checkIdentifierConfig, keyIdentifier, keyIdentifierKeys } from '../remote/key-identifier.ts'
import type { RemoteKeysHost } from '../remote/remote-keys-host.ts'
import { RemoteKeyManager } from '../remote/remote-key-manager.ts'
import { VaultHttp } from './vault-http.ts'
import { VaultKeyService } from './vault-key-service.ts'
import type { VaultAuth } from './vault-login.ts'
import { VaultSession } from './vault-session.ts'

const text = z.string().min(1, 'must not be empty')
const schema = z.strictObject({
  ...keyIdentifierKeys,
  vault_addr: text.optional(),
  namespace: text.optional(),
  transit_engine_path: text.optional(),
  ca_cert_path: text.optional(),
  insecure_skip_verify: z.boolean().default(false),
  token_auth: z.strictObject({ token: text.optional() }).optional(),
  approle_auth: z.strictObject({
    approle_auth_mount_point: text.default('approle'), approle_id: text.optional(), approle_secret_id: text.optional()
  }).optional(),
  cert_auth: z.strictObject({
    cert_auth_mount_point: text.default('cert'),
    cert_auth_role_name: text.optional(),
    client_cert_path: text.optional(),
    client_key_path: text.optional()
  }).optional(),
  k8s_auth: z.strictObject({
    k8s_auth_mount_point: text.default('kubernetes'),
    k8s_auth_role_name: text,
    token_path: text.default('/var/run/secrets/kubernetes.io/serviceaccount/token')
  }).optional()
}).refine(checkIdentifierConfig, 'must set one of key_identifier_file and key_identifier_value, or neither').refine(
  ({ token_auth, approle_auth, cert_auth, k8s_auth }) => [token_auth, approle_auth, cert_auth, k8s_auth].filter(Boolean).length === 1,
  'must set one of token_auth, approle_auth, cert_auth and k8s_auth'
)

type Config = z.output<typeof schema>
type Environment = Readonly<Record<string, string | undefined>>

/** Keys in the transit engine of Vault or OpenBao. Keys of the configuration and variables of the environment are SPIRE's. */
export const hashicorpVaultKeyManagerPlugin: Plugin<KeyManager, Config, RemoteKeysHost> = {
  name: 'hashicorp_vault',
  config: schema,
  async start (config, { sharedKeys, trustDomain, clock, log }) {
    const env = process.env
    const auth = authOf(config, env)
    const ca = config.ca_cert_path ?? env['VAULT_CACERT']
    const http = new VaultHttp({
      address: checkAddress(config.vault_addr ?? env['VAULT_ADDR']),
      namespace: config.namespace ?? env['VAULT_NAMESPACE'],
      tls: {
        ca: ca === undefined ? undefined : await readText(ca),
        ...config.cert_auth === undefined ? {} : await clientCertificate(config.cert_auth, env),
        rejectUnauthorized: config.insecure_skip_verify ? false : undefined
      }
    })
    if (config.insecure_skip_verify) log.warn('insecure_skip_verify: whoever is on the way to vault can have anything signed')
    const service = new VaultKeyService(new VaultSession(http, auth, { clock, log }),
      config.transit_engine_path ?? env['VAULT_TRANSIT_ENGINE_PATH'] ?? 'transit')
    return await RemoteKeyManager.open(service, sharedKeys, { identifier: await keyIdentifier(config, trustDomain), clock, log })
  }
}

function authOf ({ token_auth: token, approle_auth: approle, cert_auth: cert, k8s_auth: k8s }: Config, env: Environment): VaultAuth {
  if (token !== undefined) return { method: 'token', token: required(token.token, 'token_auth.token', 'VAULT_TOKEN', env) }
  if (approle !== undefined) {
    return {
      method: 'approle',
      mount: approle.approle_auth_mount_point,
      roleId: required(approle.approle_id, 'approle_auth.approle_id', 'VAULT_APPROLE_ID', env),
      secretId: required(approle.approle_secret_id, 'approle_auth.approle_secret_id', 'VAULT_APPROLE_SECRET_ID', env)
    }
  }
  if (k8s !== undefined) {
    return { method: 'kubernetes', mount: k8s.k8s_auth_mount_point, role: k8s.k8s_auth_role_name, tokenPath: k8s.token_path }
  }
  return { method: 'cert', mount: cert?.cert_auth_mount_point ?? 'cert', role: cert?.cert_auth_role_name }
}

async function clientCertificate ({ client_cert_path: cert, client_key_path: key }: NonNullable<Config['cert_auth']>, env: Environment) {
  return {
    cert: await readText(required(cert, 'cert_auth.client_cert_path', 'VAULT_CLIENT_CERT', env)),
    key: await readText(required(key, 'cert_auth.client_key_path', 'VAULT_CLIENT_KEY', env))
  }
}

/** The token would be readable on any network but this machine's own. */
function checkAddress (address: string | undefined): string {
  const given = required(address, 'vault_addr', 'VAULT_ADDR', {})
  const { protocol, hostname } = URL.parse(given) ?? { protocol: '', hostname: '' }
  const isHere = /^(?:127(?:\.\d+){3}|\[::1\]|localhost)$/.test(hostname)
  if (protocol === 'https:' || (protocol === 'http:' && isHere)) return given
  throw new SpiffeError('config_invalid', `vault_addr ${JSON.stringify(given)} is no https:// address; http:// is for this machine's own`)
}

function required (value: string | undefined, key: string, variable: string, env: Environment): string {
  const given = value ?? env[variable]
  if (given === undefined || given === '') throw new SpiffeError('config_invalid', `${key} is missing, and ${variable} is not set`)
  return given
}

async function readText (path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    throw new SpiffeError('file_unusable', `cannot read ${path}: ${(error as Error).message}`, { cause: error })
  }
}
