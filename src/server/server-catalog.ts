import { databaseKeyManagerPlugin } from '../keys/database/database-plugin.ts'
import type { WrappedKeys } from '../keys/database/database-key-manager.ts'
import { diskKeyManagerPlugin } from '../keys/disk/disk-plugin.ts'
import type { KeyManager } from '../keys/key-manager.ts'
import { memoryKeyManagerPlugin } from '../keys/memory/memory-plugin.ts'
import type { Catalog } from '../plugins/catalog.ts'
import type { Logger } from '../runtime/logger.ts'

export interface ServerPlugins { readonly KeyManager: KeyManager }

export interface ServerPluginHost {
  readonly log: Logger
  readonly dataDir: string
  /** For keys that all replicas share. */
  readonly sharedKeys: WrappedKeys
}

export const serverCatalog: Catalog<ServerPlugins, ServerPluginHost> = {
  KeyManager: { use: 'one', plugins: [diskKeyManagerPlugin, memoryKeyManagerPlugin, databaseKeyManagerPlugin] }
}
