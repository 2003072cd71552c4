import { join } from 'node:path'
import { z } from 'zod'
import type { Plugin } from '../../plugins/plugin.ts'
import type { Logger } from '../../runtime/logger.ts'
import type { KeyManager } from '../key-manager.ts'
import { openDiskKeyManager } from './disk-key-manager.ts'

const schema = z.strictObject({ keys_path: z.string().min(1, 'must not be empty').optional() })

/** Keys are in `keys.json` in the process's data folder unless `keys_path` says where. */
export const diskKeyManagerPlugin: Plugin<KeyManager, z.output<typeof schema>, { readonly log: Logger, readonly dataDir: string }> = {
  name: 'disk',
  config: schema,
  start: ({ keys_path: path }, { log, dataDir }) => openDiskKeyManager(path ?? join(dataDir, 'keys.json'), { log })
}
