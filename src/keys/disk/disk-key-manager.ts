import { silentLogger, type Logger } from '../../runtime/logger.ts'
import type { KeyManager } from '../key-manager.ts'
import { LocalKeyManager } from '../local-key-manager.ts'
import { KeyFile } from './key-file.ts'

/**
 * Keys in one file that only our user may read, written anew as a whole for each change. Missing folders are made.
 * @param file of this process alone; two servers need two files
 * @throws {SpiffeError} `key_store_corrupt`, `file_unusable`
 */
export async function openDiskKeyManager (file: string, { log = silentLogger }: { readonly log?: Logger } = {}): Promise<KeyManager> {
  const keyFile = new KeyFile(file)
  return new LocalKeyManager(await keyFile.open(log), keys => keyFile.write(keys))
}
