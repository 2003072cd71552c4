import { readFile } from 'node:fs/promises'
import { z } from 'zod'
import type { Plugin } from '../../plugins/plugin.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { KeyManager } from '../key-manager.ts'
import { checkIdentifierConfig, keyIdentifier, keyIdentifierKeys } from '../remote/key-identifier.ts'
import { RemoteKeyManager } from '../remote/remote-key-manager.ts'
import type { RemoteKeysHost } from '../remote/remote-keys-host.ts'
import { Pkcs11KeyService } from './pkcs11-key-service.ts'

const text = z.string().min(1, 'must not be empty')
const schema = z.strictObject({
  ...keyIdentifierKeys,
  module_path: text.regex(/^\//, 'must be an absolute path'),
  token_label: text.max(32, 'must be 32 characters at most'),
  pin_file: text.optional()
}).refine(checkIdentifierConfig, 'must set one of key_identifier_file and key_identifier_value, or neither')

const pinVariable = 'ASSAY_PKCS11_PIN'

/** Keys of a token with a PKCS#11 module: an HSM, a smart card, SoftHSM. SPIRE has none of this kind. */
export const pkcs11KeyManagerPlugin: Plugin<KeyManager, z.output<typeof schema>, RemoteKeysHost> = {
  name: 'pkcs11',
  config: schema,
  async start (config, { sharedKeys, trustDomain, clock, log }) {
    const pin = await readPin(config.pin_file)
    const service = new Pkcs11KeyService({ modulePath: config.module_path, tokenLabel: config.token_label, pin })
    return await RemoteKeyManager.open(service, sharedKeys, { identifier: await keyIdentifier(config, trustDomain), clock, log })
  }
}

async function readPin (file: string | undefined): Promise<string> {
  if (file === undefined) {
    const pin = process.env[pinVariable]
    if (pin === undefined || pin === '') throw new SpiffeError('config_invalid', `pin_file is missing, and ${pinVariable} is not set`)
    return pin
  }
  try {
    return (await readFile(file, 'utf8')).replace(/\r?\n$/, '')
  } catch (error) {
    throw new SpiffeError('file_unusable', `cannot read the PIN from ${file}: ${(error as Error).message}`, { cause: error })
  }
}
