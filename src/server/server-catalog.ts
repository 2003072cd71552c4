import { diskKeyManagerPlugin } from '../keys/disk/disk-plugin.ts'
import type { KeyManager } from '../keys/key-manager.ts'
import { memoryKeyManagerPlugin } from '../keys/memory/memory-plugin.ts'
import type { Catalog } from '../plugins/catalog.ts'
import type { Logger } from '../runtime/logger.ts'

export interface ServerPlugins { readonly KeyManager: KeyManager }

export interface ServerPluginHost {
  readonly log: Logger
  readonly dataDir: string
}

export const serverCatalog: Catalog<ServerPlugins, ServerPluginHost> = {
  KeyManager: { use: 'one', plugins: [diskKeyManagerPlugin, memoryKeyManagerPlugin] }
}
