import { z } from 'zod'
import { parsePluginConfig } from '../../plugins/parse-plugin-config.ts'
import type { Plugin } from '../../plugins/plugin.ts'
import type { KeyManager } from '../key-manager.ts'
import { createMemoryKeyManager } from './memory-key-manager.ts'

export const memoryKeyManagerPlugin: Plugin<KeyManager, object, unknown> = {
  name: 'memory',
  parseConfig: raw => parsePluginConfig(z.strictObject({}), raw),
  start: async () => createMemoryKeyManager()
}
