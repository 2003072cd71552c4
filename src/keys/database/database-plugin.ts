import type { Plugin } from '../../plugins/plugin.ts'
import type { KeyManager } from '../key-manager.ts'
import { isKeyReference } from '../key-reference.ts'
import type { RemoteKeysHost } from '../remote/remote-keys-host.ts'
import { DatabaseKeyManager } from './database-key-manager.ts'
import { EnvelopeWrapping } from './envelope-wrapping.ts'
import { databaseKeysSchema, openKeyWrapping, type DatabaseKeysConfig } from './open-key-wrapping.ts'

/**
 * Keys in the database, wrapped under a key from a file or from a credential of the service manager (`$CREDENTIALS_DIRECTORY`, as
 * systemd's `LoadCredential=` and `SetCredentialEncrypted=` give them), or under one that a KMS, Vault or a token has. All replicas
 * need the same one.
 */
export const databaseKeyManagerPlugin: Plugin<KeyManager, DatabaseKeysConfig, RemoteKeysHost> = {
  name: 'database',
  config: databaseKeysSchema,
  async start (config, host) {
    const { sharedKeys, clock, log } = host
    const wrapping = await openKeyWrapping(config, host)
    if (wrapping instanceof EnvelopeWrapping) await checkWhereNothingIs(wrapping, host)
    return await DatabaseKeyManager.open(sharedKeys, wrapping, { clock, log })
  }
}

/** Where no key is wrapped yet, a key-encryption key that is of no use would be noticed by the first one that is made. */
async function checkWhereNothingIs (wrapping: EnvelopeWrapping, { sharedKeys }: RemoteKeysHost): Promise<void> {
  try {
    if ([...(await sharedKeys.list()).values()].every(isKeyReference)) await wrapping.check()
  } catch (error) {
    await wrapping[Symbol.asyncDispose]()
    throw error
  }
}
