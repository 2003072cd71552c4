import { z } from 'zod'
import { parsePluginConfig } from '../../plugins/parse-plugin-config.ts'
import type { Plugin } from '../../plugins/plugin.ts'
import type { Logger } from '../../runtime/logger.ts'
import type { KeyManager } from '../key-manager.ts'
import { openDiskKeyManager } from './disk-key-manager.ts'

const schema = z.strictObject({ keys_path: z.string().min(1, 'must not be empty') })

export const diskKeyManagerPlugin: Plugin<KeyManager, z.output<typeof schema>, { readonly log: Logger }> = {
  name: 'disk',
  parseConfig: raw => parsePluginConfig(schema, raw),
  start: ({ keys_path: path }, { log }) => openDiskKeyManager(path, { log })
}
