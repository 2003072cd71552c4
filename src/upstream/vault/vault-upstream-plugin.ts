import { z } from 'zod'
import { hasOneVaultAuth, oneVaultAuth, openVault, vaultKeys, vaultMount } from '../../vault/vault-config.ts'
import type { VaultCodes } from '../../vault/vault-http.ts'
import type { UpstreamPlugin } from '../upstream-plugin.ts'
import { VaultUpstream } from './vault-upstream.ts'

const schema = z.strictObject({ ...vaultKeys, pki_mount_point: vaultMount.default('pki') }).refine(hasOneVaultAuth, oneVaultAuth)

const codes: VaultCodes = {
  unreachable: 'upstream_unavailable', sealed: 'upstream_unavailable', throttled: 'upstream_unavailable', failed: 'upstream_unavailable',
  refused: 'upstream_refused', malformed: 'upstream_invalid'
}
/** Of an answer: with its chain a CA takes some 10 KiB. */
const maxBytes = 1024 * 1024

/** Vault's PKI engine (spire-surface §7.4). Vault need not be there when this server starts with a CA at hand. */
export const vaultUpstreamPlugin: UpstreamPlugin<z.output<typeof schema>> = {
  name: 'vault',
  config: schema,
  async start (config, { clock, log, trustDomain }) {
    return new VaultUpstream(await openVault(config, { codes, clock, log, maxBytes }), config.pki_mount_point, trustDomain)
  }
}
