import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { SpiffeError } from '../../spiffe/errors.ts'
import { RemoteCalls } from '../remote/remote-calls.ts'
import { EnvelopeWrapping } from './envelope-wrapping.ts'
import { keyEncryptionSchema, openKeyEncryption, type KeyEncryptionHost } from './key-encryption-config.ts'
import { parseKeyEncryptionKey, type KeyWrapping } from './key-wrapping.ts'
import { LocalWrapping } from './local-wrapping.ts'

/** What the key manager `database` is told: by what it wraps keys. */
export const databaseKeysSchema = z.strictObject({
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

export type DatabaseKeysConfig = z.output<typeof databaseKeysSchema>

/**
 * A key that is elsewhere is not asked yet: `EnvelopeWrapping.check` does.
 * @throws {SpiffeError} `config_invalid`, `file_unusable`, `key_encryption_key_invalid`
 */
export async function openKeyWrapping (config: DatabaseKeysConfig, host: KeyEncryptionHost): Promise<EnvelopeWrapping | LocalWrapping> {
  const isLocal = config.key_encryption_key_file !== undefined || config.key_encryption_key_credential !== undefined
  const local = isLocal ? new LocalWrapping(parseKeyEncryptionKey(await readKey(config))) : undefined
  if (config.key_encryption_key === undefined) return local as LocalWrapping
  return await openEnvelope(config.key_encryption_key, local, host)
}

async function openEnvelope (
  config: z.output<typeof keyEncryptionSchema>, before: KeyWrapping | undefined, host: KeyEncryptionHost
): Promise<EnvelopeWrapping> {
  const service = await openKeyEncryption(config, host)
  return new EnvelopeWrapping(service, new RemoteCalls(`key-encryption key (${service.name})`, host), before)
}

async function readKey (
  { key_encryption_key_file: file, key_encryption_key_credential: credential }: DatabaseKeysConfig
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
