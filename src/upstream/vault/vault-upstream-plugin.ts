import { z } from 'zod'
import { parsedBy, text } from '../../runtime/config-schema.ts'
import type { UpstreamPlugin } from '../upstream-plugin.ts'
import { VaultUpstream, type VaultAuth } from './vault-upstream.ts'

/** A path below Vault's API; slashes around it do no harm, as in Vault itself. */
function mount (usual: string) {
  return z.string().regex(/^\/*[\w.-]+(\/[\w.-]+)*\/*$/, 'must be a path of a-z, 0-9, ".", "-", "_" and "/"')
    .refine(path => !path.split('/').includes('..'), 'must not lead upwards')
    .transform(path => path.replace(/^\/+|\/+$/g, '')).default(usual)
}

const vaultUrl = parsedBy(address => {
  const url = new URL(address)
  if (!['http:', 'https:'].includes(url.protocol)) throw new Error('must be an http:// or https:// URL')
  if (url.username !== '' || url.search !== '' || url.hash !== '') throw new Error('must have no user, query or fragment')
  return url
})

const schema = z.strictObject({
  vault_addr: vaultUrl,
  namespace: text.optional(),
  pki_mount_point: mount('pki'),
  ca_cert_path: text.optional(),
  insecure_skip_verify: z.boolean().default(false),
  token_auth: z.strictObject({ token: text }).optional(),
  approle_auth: z.strictObject({ approle_auth_mount_point: mount('approle'), approle_id: text, approle_secret_id: text }).optional(),
  cert_auth: z.strictObject({
    cert_auth_mount_point: mount('cert'), cert_auth_role_name: text.optional(), client_cert_path: text, client_key_path: text
  }).optional(),
  k8s_auth: z.strictObject({
    k8s_auth_mount_point: mount('kubernetes'), k8s_auth_role_name: text,
    token_path: text.default('/var/run/secrets/kubernetes.io/serviceaccount/token')
  }).optional()
}).check(({ value, issues }) => {
  const methods = [value.token_auth, value.approle_auth, value.cert_auth, value.k8s_auth].filter(method => method !== undefined)
  const refuse = (message: string) => issues.push({ code: 'custom', path: [], message, input: undefined })
  if (methods.length !== 1) refuse('must have one of token_auth, approle_auth, cert_auth, k8s_auth')
  if (value.vault_addr.protocol === 'http:' && value.cert_auth !== undefined) refuse('cert_auth needs an https:// vault_addr')
})

/** Vault's PKI engine (spire-surface §7.4). Vault need not be there when this server starts with a CA at hand. */
export const vaultUpstreamPlugin: UpstreamPlugin<z.output<typeof schema>> = {
  name: 'vault',
  config: schema,
  async start (config, host) {
    const { vault_addr: url, namespace, pki_mount_point: pkiMount, ca_cert_path: caPath, cert_auth: cert } = config
    const { insecure_skip_verify: skipVerify } = config
    const warn = (message: string) => host.log.warn({ vault: url.origin }, message)
    if (url.protocol === 'http:') warn('Vault is asked without TLS: whoever is on the way can read the token')
    else if (skipVerify) warn('insecure_skip_verify: whoever answers for Vault is believed, and gets the token')
    const client = cert && { certificatePath: cert.client_cert_path, keyPath: cert.client_key_path }
    return new VaultUpstream({ address: { url, namespace, caPath, skipVerify, client }, pkiMount, auth: authOf(config) }, host)
  }
}

function authOf ({ token_auth: token, approle_auth: approle, cert_auth: cert, k8s_auth: k8s }: z.output<typeof schema>): VaultAuth {
  if (token !== undefined) return { method: 'token', token: token.token }
  if (approle !== undefined) {
    return { method: 'approle', mount: approle.approle_auth_mount_point, roleId: approle.approle_id, secretId: approle.approle_secret_id }
  }
  if (k8s !== undefined) return { method: 'k8s', mount: k8s.k8s_auth_mount_point, role: k8s.k8s_auth_role_name, tokenPath: k8s.token_path }
  return { method: 'cert', mount: cert?.cert_auth_mount_point ?? '', role: cert?.cert_auth_role_name }
}
