import { z } from 'zod'
import type { Plugin } from '../../plugins/plugin.ts'
import type { KeyManager } from '../key-manager.ts'
import { createMemoryKeyManager } from './memory-key-manager.ts'

export const memoryKeyManagerPlugin: Plugin<KeyManager, object, unknown> = {
  name: 'memory',
  config: z.strictObject({}),
  start: async () => createMemoryKeyManager()
}
