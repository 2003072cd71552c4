import { z } from 'zod'
import { orEnvironment, requiredOrEnvironment } from '../plugins/from-environment.ts'
import type { Clock } from '../runtime/clock.ts'
import { parsedBy, text } from '../runtime/config-schema.ts'
import type { Logger } from '../runtime/logger.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { VaultHttp, type VaultCodes } from './vault-http.ts'
import type { VaultAuth } from './vault-login.ts'
import { VaultSession } from './vault-session.ts'

const vaultAddress = parsedBy(checkAddress)

/** A path below Vault's API; slashes around it do no harm, as in Vault itself. */
export const vaultMount = z.string().regex(/^\/*[\w.-]+(\/[\w.-]+)*\/*$/, 'must be a path of a-z, 0-9, ".", "-", "_" and "/"')
  .refine(path => !path.split('/').includes('..'), 'must not lead upwards')
  .transform(path => path.replace(/^\/+|\/+$/g, ''))

/** Where Vault is and how to log in: SPIRE's names, the same for keys and for upstream authorities. */
export const vaultKeys = {
  vault_addr: vaultAddress.optional(),
  namespace: text.optional(),
  ca_cert_path: text.optional(),
  insecure_skip_verify: z.boolean().default(false),
  token_auth: z.strictObject({ token: text.optional() }).optional(),
  approle_auth: z.strictObject({
    approle_auth_mount_point: vaultMount.default('approle'), approle_id: text.optional(), approle_secret_id: text.optional()
  }).optional(),
  cert_auth: z.strictObject({
    cert_auth_mount_point: vaultMount.default('cert'),
    cert_auth_role_name: text.optional(),
    client_cert_path: text.optional(),
    client_key_path: text.optional()
  }).optional(),
  k8s_auth: z.strictObject({
    k8s_auth_mount_point: vaultMount.default('kubernetes'),
    k8s_auth_role_name: text,
    token_path: text.default('/var/run/secrets/kubernetes.io/serviceaccount/token')
  }).optional()
}

const schema = z.strictObject(vaultKeys)
export type VaultConfig = z.output<typeof schema>

export const oneVaultAuth = 'must set one of token_auth, approle_auth, cert_auth and k8s_auth'
export function hasOneVaultAuth (config: VaultConfig): boolean {
  const { token_auth: token, approle_auth: approle, cert_auth: cert, k8s_auth: k8s } = config
  return [token, approle, cert, k8s].filter(method => method !== undefined).length === 1
}

export interface OpenVaultOptions {
  readonly codes: VaultCodes
  readonly clock: Clock
  readonly log: Logger
  readonly maxBytes?: number
}

/**
 * What is not in the configuration comes from Vault's environment variables. Files are read, nobody is asked.
 * @throws {SpiffeError} `config_invalid`, `file_unusable`
 */
export async function openVault (config: VaultConfig, { codes, clock, log, maxBytes }: OpenVaultOptions): Promise<VaultSession> {
  const url = config.vault_addr ?? checkAddress(requiredOrEnvironment(undefined, 'vault_addr', 'VAULT_ADDR'))
  const { cert_auth: cert, insecure_skip_verify: skipVerify } = config
  if (cert !== undefined && url.protocol === 'http:') throw new SpiffeError('config_invalid', 'cert_auth needs an https:// vault_addr')
  const http = new VaultHttp({
    url, codes, maxBytes, skipVerify,
    namespace: orEnvironment(config.namespace, 'VAULT_NAMESPACE'),
    caPath: orEnvironment(config.ca_cert_path, 'VAULT_CACERT'),
    client: cert && {
      certificatePath: requiredOrEnvironment(cert.client_cert_path, 'cert_auth.client_cert_path', 'VAULT_CLIENT_CERT'),
      keyPath: requiredOrEnvironment(cert.client_key_path, 'cert_auth.client_key_path', 'VAULT_CLIENT_KEY')
    }
  })
  const session = new VaultSession(http, authOf(config), { clock, log })
  await http.refresh()
  if (skipVerify) log.warn({ vault: url.origin }, 'insecure_skip_verify: whoever is on the way to vault is believed, and gets the token')
  return session
}

/** Where Vault's transit engine is, for keys. */
export function transitPathOf ({ transit_engine_path: path }: { readonly transit_engine_path?: string | undefined }): string {
  return orEnvironment(path, 'VAULT_TRANSIT_ENGINE_PATH') ?? 'transit'
}

function authOf ({ token_auth: token, approle_auth: approle, cert_auth: cert, k8s_auth: k8s }: VaultConfig): VaultAuth {
  if (token !== undefined) return { method: 'token', token: requiredOrEnvironment(token.token, 'token_auth.token', 'VAULT_TOKEN') }
  if (approle !== undefined) {
    return {
      method: 'approle',
      mount: approle.approle_auth_mount_point,
      roleId: requiredOrEnvironment(approle.approle_id, 'approle_auth.approle_id', 'VAULT_APPROLE_ID'),
      secretId: requiredOrEnvironment(approle.approle_secret_id, 'approle_auth.approle_secret_id', 'VAULT_APPROLE_SECRET_ID')
    }
  }
  if (k8s !== undefined) {
    return { method: 'kubernetes', mount: k8s.k8s_auth_mount_point, role: k8s.k8s_auth_role_name, tokenPath: k8s.token_path }
  }
  return { method: 'cert', mount: cert?.cert_auth_mount_point ?? 'cert', role: cert?.cert_auth_role_name }
}

/** The token would be readable on any network but this machine's own. */
function checkAddress (address: string): URL {
  const url = URL.parse(address)
  const isHere = /^(?:127(?:\.\d+){3}|\[::1\]|localhost)$/.test(url?.hostname ?? '')
  if (url === null || !(url.protocol === 'https:' || (url.protocol === 'http:' && isHere))) {
    throw new SpiffeError('config_invalid', `${JSON.stringify(address)} is no https:// address; http:// is for this machine's own`)
  }
  if (url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '') {
    throw new SpiffeError('config_invalid', 'vault\'s address must have no user, query or fragment')
  }
  return url
}
