import { z } from 'zod'
import type { Plugin } from '../../plugins/plugin.ts'
import { hasOneVaultAuth, oneVaultAuth, openVault, transitPathOf, vaultKeys, vaultMount } from '../../vault/vault-config.ts'
import type { KeyManager } from '../key-manager.ts'
import { checkIdentifierConfig, keyIdentifier, keyIdentifierKeys } from '../remote/key-identifier.ts'
import type { RemoteKeysHost } from '../remote/remote-keys-host.ts'
import { RemoteKeyManager } from '../remote/remote-key-manager.ts'
import { vaultKeyCodes } from './vault-key-codes.ts'
import { VaultKeyService } from './vault-key-service.ts'

const schema = z.strictObject({ ...keyIdentifierKeys, ...vaultKeys, transit_engine_path: vaultMount.optional() })
  .refine(checkIdentifierConfig, 'must set one of key_identifier_file and key_identifier_value, or neither')
  .refine(hasOneVaultAuth, oneVaultAuth)

/** Keys in the transit engine of Vault or OpenBao. Keys of the configuration and variables of the environment are SPIRE's. */
export const hashicorpVaultKeyManagerPlugin: Plugin<KeyManager, z.output<typeof schema>, RemoteKeysHost> = {
  name: 'hashicorp_vault',
  config: schema,
  async start (config, { sharedKeys, trustDomain, clock, log }) {
    const session = await openVault(config, { codes: vaultKeyCodes, clock, log })
    const service = new VaultKeyService(session, transitPathOf(config))
    return await RemoteKeyManager.open(service, sharedKeys, { identifier: await keyIdentifier(config, trustDomain), clock, log })
  }
}
