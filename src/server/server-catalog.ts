import { databaseKeyManagerPlugin } from '../keys/database/database-plugin.ts'
import type { WrappedKeys } from '../keys/database/database-key-manager.ts'
import { diskKeyManagerPlugin } from '../keys/disk/disk-plugin.ts'
import type { KeyManager } from '../keys/key-manager.ts'
import type { UpstreamAuthority } from '../ca/upstream-authority.ts'
import { memoryKeyManagerPlugin } from '../keys/memory/memory-plugin.ts'
import type { Catalog } from '../plugins/catalog.ts'
import { diskUpstreamPlugin } from '../upstream/disk/disk-upstream-plugin.ts'
import { spireUpstreamPlugin } from '../upstream/spire/spire-upstream-plugin.ts'
import type { UpstreamHost } from '../upstream/upstream-plugin.ts'
import { vaultUpstreamPlugin } from '../upstream/vault/vault-upstream-plugin.ts'

export interface ServerPlugins { readonly KeyManager: KeyManager, readonly UpstreamAuthority: UpstreamAuthority }

export interface ServerPluginHost extends UpstreamHost {
  readonly dataDir: string
  /** For keys that all replicas share. */
  readonly sharedKeys: WrappedKeys
}

export const serverCatalog: Catalog<ServerPlugins, ServerPluginHost> = {
  KeyManager: { use: 'one', plugins: [diskKeyManagerPlugin, memoryKeyManagerPlugin, databaseKeyManagerPlugin] },
  UpstreamAuthority: { use: 'one_or_none', plugins: [diskUpstreamPlugin, spireUpstreamPlugin, vaultUpstreamPlugin] }
}
