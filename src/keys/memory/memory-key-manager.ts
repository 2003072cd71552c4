import type { KeyManager } from '../key-manager.ts'
import { LocalKeyManager } from '../local-key-manager.ts'

/** Keys live as long as the process. */
export function createMemoryKeyManager (): KeyManager {
  return new LocalKeyManager(new Map(), async () => {})
}
