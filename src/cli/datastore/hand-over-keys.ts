import { wrapKeyFile } from '../../keys/database/wrap-key-file.ts'
import { parseKeyEncryptionKey } from '../../keys/database/key-wrapping.ts'
import type { Logger } from '../../runtime/logger.ts'
import { readServerId } from '../../server/replication/server-id.ts'
import type { KeyHandover } from '../../storage/backup/copy-datastore.ts'
import { readInputFile } from '../read-input.ts'
import { usage } from '../parse-flags.ts'
import type { ChosenDatastore } from './datastore-flags.ts'

export interface HandoverPlan {
  readonly handover: KeyHandover
  /** What the operator does next about keys; nothing where they stay as they are. */
  readonly next: string | undefined
}

/**
 * How the authorities go on with the database they move to, so that agents know them. Those whose keys are in `keys.json` belong, on
 * PostgreSQL, to the one server that has the file; or their keys move into the database, for all servers.
 * @param keyFile with the key-encryption key for that
 * @throws {SpiffeError} `usage_invalid`, `file_unusable`, `key_encryption_key_invalid`, `key_store_corrupt`
 */
export async function planHandover (
  { url, keys, dataDir }: ChosenDatastore, to: string, keyFile: string | undefined, log: Logger
): Promise<HandoverPlan> {
  if (keyFile !== undefined) {
    if (keys?.kind !== 'file') throw usage('-keyEncryptionKeyFile takes over the keys of the key manager "disk", which -config names')
    const wrapping = parseKeyEncryptionKey(await readInputFile(keyFile))
    return {
      handover: { wrappedKeys: await wrapKeyFile(keys.path, wrapping, log), owner: { from: await ownerOn(url, dataDir), to: '' } },
      next: `set the key manager to "database" with key_encryption_key_file: ${keyFile}; in the end delete ${keys.path}`
    }
  }
  if (keys?.kind === 'file') {
    const [from, target] = [await ownerOn(url, dataDir), await ownerOn(to, dataDir)]
    return { handover: { owner: { from, to: target } }, next: `leave ${keys.path} and the data folder where they are` }
  }
  return {
    handover: {},
    next: keys === undefined
      ? 'with the key manager "disk", name the server\'s -config instead: otherwise its authorities are not handed over'
      : undefined
  }
}

/** Whose the authorities of a disk key manager are: on PostgreSQL its server's. */
async function ownerOn (url: string, dataDir: string | undefined): Promise<string> {
  return /^postgres(ql)?:/i.test(url) && dataDir !== undefined ? await readServerId(dataDir) : ''
}
