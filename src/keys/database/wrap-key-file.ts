import type { Logger } from '../../runtime/logger.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { KeyFile } from '../disk/key-file.ts'
import { exportPrivateKey } from '../private-key.ts'
import type { KeyWrapping } from './key-wrapping.ts'

/**
 * The keys of the disk key manager as the database key manager keeps them: they leave the file wrapped only.
 * @throws {SpiffeError} `file_unusable` when there are none, `key_store_corrupt`; `key_service_*` where the key-encryption key is elsewhere
 */
export async function wrapKeyFile (path: string, wrapping: KeyWrapping, log: Logger): Promise<ReadonlyMap<string, Uint8Array>> {
  const held = await new KeyFile(path).open(log)
  if (held.size === 0) throw new SpiffeError('file_unusable', `there are no keys in ${path}`)
  const wrapped = new Map<string, Uint8Array>()
  for (const [id, { privateKey }] of held) wrapped.set(id, await wrapping.wrap(exportPrivateKey(privateKey), id))
  return wrapped
}
