import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import type { Plugin } from '../../plugins/plugin.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { KeyManager, SharedKeyRows } from '../key-manager.ts'
import { DatabaseKeyManager } from './database-key-manager.ts'
import { parseKeyEncryptionKey } from './key-wrapping.ts'

const schema = z.strictObject({
  key_encryption_key_file: z.string().min(1, 'must not be empty').optional(),
  key_encryption_key_credential: z.string().regex(/^[^/\0]+$/, 'must be the name of a credential, without /').optional()
}).refine(
  config => (config.key_encryption_key_file === undefined) !== (config.key_encryption_key_credential === undefined),
  'must set one of key_encryption_key_file and key_encryption_key_credential'
)

/**
 * Keys in the database, wrapped under a key from a file or from a credential of the service manager (`$CREDENTIALS_DIRECTORY`, as
 * systemd's `LoadCredential=` and `SetCredentialEncrypted=` give them). All replicas need the same one.
 */
export const databaseKeyManagerPlugin: Plugin<KeyManager, z.output<typeof schema>, { readonly sharedKeys: SharedKeyRows }> = {
  name: 'database',
  config: schema,
  async start (config, { sharedKeys }) {
    return await DatabaseKeyManager.open(sharedKeys, parseKeyEncryptionKey(await readKey(config)))
  }
}

async function readKey ({ key_encryption_key_file: file, key_encryption_key_credential: credential }: z.output<typeof schema>) {
  const folder = process.env['CREDENTIALS_DIRECTORY']
  if (credential !== undefined && folder === undefined) {
    throw new SpiffeError('config_invalid', 'key_encryption_key_credential needs CREDENTIALS_DIRECTORY, which the service manager sets')
  }
  const path = credential === undefined ? file as string : join(folder as string, credential)
  try {
    return await readFile(path)
  } catch (error) {
    throw new SpiffeError('file_unusable', `cannot read the key-encryption key ${path}: ${(error as Error).message}`, { cause: error })
  }
}
