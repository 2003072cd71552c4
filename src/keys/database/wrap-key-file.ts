import type { Logger } from '../../runtime/logger.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { KeyFile } from '../disk/key-file.ts'
import { exportPrivateKey } from '../private-key.ts'
import { wrapKey, type KeyEncryptionKey } from './key-wrapping.ts'

/**
 * The keys of the disk key manager as the database key manager keeps them: they leave the file wrapped only.
 * @throws {SpiffeError} `file_unusable` when there are none, `key_store_corrupt`
 */
export async function wrapKeyFile (path: string, wrapping: KeyEncryptionKey, log: Logger): Promise<ReadonlyMap<string, Uint8Array>> {
  const held = await new KeyFile(path).open(log)
  if (held.size === 0) throw new SpiffeError('file_unusable', `there are no keys in ${path}`)
  return new Map([...held].map(([id, { privateKey }]) => [id, wrapKey(exportPrivateKey(privateKey), id, wrapping)]))
}
