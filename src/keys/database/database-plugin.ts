import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import type { Plugin } from '../../plugins/plugin.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { KeyManager } from '../key-manager.ts'
import { isKeyReference } from '../key-reference.ts'
import { RemoteCalls } from '../remote/remote-calls.ts'
import type { RemoteKeysHost } from '../remote/remote-keys-host.ts'
import { DatabaseKeyManager } from './database-key-manager.ts'
import { EnvelopeWrapping } from './envelope-wrapping.ts'
import { keyEncryptionSchema, openKeyEncryption } from './key-encryption-config.ts'
import { parseKeyEncryptionKey, type KeyWrapping } from './key-wrapping.ts'
import { LocalWrapping } from './local-wrapping.ts'

const schema = z.strictObject({
  key_encryption_key_file: z.string().min(1, 'must not be empty').optional(),
  key_encryption_key_credential: z.string().regex(/^[^/\0]+$/, 'must be the name of a credential, without /').optional(),
  /** One that is elsewhere; a file or a credential beside it is for what was wrapped before. */
  key_encryption_key: keyEncryptionSchema.optional()
}).refine(
  config => config.key_encryption_key_file === undefined || config.key_encryption_key_credential === undefined,
  'must set one of key_encryption_key_file and key_encryption_key_credential'
).refine(
  ({ key_encryption_key_file: file, key_encryption_key_credential: credential, key_encryption_key: elsewhere }) =>
    [file, credential, elsewhere].some(key => key !== undefined),
  'must set one of key_encryption_key_file, key_encryption_key_credential and key_encryption_key'
)

/**
 * Keys in the database, wrapped under a key from a file or from a credential of the service manager (`$CREDENTIALS_DIRECTORY`, as
 * systemd's `LoadCredential=` and `SetCredentialEncrypted=` give them), or under one that a KMS, Vault or a token has. All replicas
 * need the same one.
 */
export const databaseKeyManagerPlugin: Plugin<KeyManager, z.output<typeof schema>, RemoteKeysHost> = {
  name: 'database',
  config: schema,
  async start (config, host) {
    const { sharedKeys, clock, log } = host
    const isLocal = config.key_encryption_key_file !== undefined || config.key_encryption_key_credential !== undefined
    const local = isLocal ? new LocalWrapping(parseKeyEncryptionKey(await readKey(config))) : undefined
    const wrapping = config.key_encryption_key === undefined
      ? local as KeyWrapping
      : await openEnvelope(config.key_encryption_key, local, host)
    return await DatabaseKeyManager.open(sharedKeys, wrapping, { clock, log })
  }
}

/** Where no key is wrapped yet, a key-encryption key that is of no use would be noticed by the first one that is made. */
async function openEnvelope (
  config: z.output<typeof keyEncryptionSchema>, before: KeyWrapping | undefined, host: RemoteKeysHost
): Promise<EnvelopeWrapping> {
  const service = await openKeyEncryption(config, host)
  const wrapping = new EnvelopeWrapping(service, new RemoteCalls(`key-encryption key (${service.name})`, host), before)
  try {
    if ([...(await host.sharedKeys.list()).values()].every(isKeyReference)) await wrapping.check()
    return wrapping
  } catch (error) {
    await wrapping[Symbol.asyncDispose]()
    throw error
  }
}

async function readKey (
  { key_encryption_key_file: file, key_encryption_key_credential: credential }: z.output<typeof schema>
): Promise<Uint8Array> {
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
