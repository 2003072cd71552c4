import { z } from 'zod'
import type { Plugin } from '../../plugins/plugin.ts'
import type { KeyManager } from '../key-manager.ts'
import { checkIdentifierConfig, keyIdentifier, keyIdentifierKeys } from '../remote/key-identifier.ts'
import { RemoteKeyManager } from '../remote/remote-key-manager.ts'
import type { RemoteKeysHost } from '../remote/remote-keys-host.ts'
import { Pkcs11KeyService } from './pkcs11-key-service.ts'
import { openTokenOf, tokenKeys } from './token-config.ts'

const schema = z.strictObject({ ...keyIdentifierKeys, ...tokenKeys })
  .refine(checkIdentifierConfig, 'must set one of key_identifier_file and key_identifier_value, or neither')

/** Keys of a token with a PKCS#11 module: an HSM, a smart card, SoftHSM. SPIRE has none of this kind. */
export const pkcs11KeyManagerPlugin: Plugin<KeyManager, z.output<typeof schema>, RemoteKeysHost> = {
  name: 'pkcs11',
  config: schema,
  async start (config, { sharedKeys, trustDomain, clock, log }) {
    const service = new Pkcs11KeyService(await openTokenOf(config))
    return await RemoteKeyManager.open(service, sharedKeys, { identifier: await keyIdentifier(config, trustDomain), clock, log })
  }
}
