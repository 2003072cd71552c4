import { z } from 'zod'
import { awsClientOptions, awsEndpoint, awsRegion } from '../../aws/aws-client.ts'
import type { Clock } from '../../runtime/clock.ts'
import { text } from '../../runtime/config-schema.ts'
import type { Logger } from '../../runtime/logger.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import { hasOneVaultAuth, oneVaultAuth, openVault, transitPathOf, vaultKeys, vaultMount } from '../../vault/vault-config.ts'
import { AwsKmsEncryption } from '../aws-kms/aws-kms-encryption.ts'
import { VaultEncryption } from '../hashicorp-vault/vault-encryption.ts'
import { vaultKeyCodes } from '../hashicorp-vault/vault-key-codes.ts'
import { Pkcs11Encryption } from '../pkcs11/pkcs11-encryption.ts'
import { openTokenOf, tokenKeys } from '../pkcs11/token-config.ts'
import type { KeyEncryptionService } from './key-encryption-service.ts'

const awsKms = z.strictObject({
  region: awsRegion, key_id: text.max(2_048, 'must be 2048 characters at most'), access_key_id: text.optional(),
  secret_access_key: text.optional(), endpoint: awsEndpoint.optional()
}).refine(
  config => (config.access_key_id === undefined) === (config.secret_access_key === undefined),
  'must set both of access_key_id and secret_access_key, or neither'
)
const hashicorpVault = z.strictObject({
  ...vaultKeys, transit_engine_path: vaultMount.optional(), key_name: text.regex(/^[\w.-]{1,100}$/, 'must be 1 to 100 of a-z A-Z 0-9 . _ -')
}).refine(hasOneVaultAuth, oneVaultAuth)

/** Where a key-encryption key is that never comes here: names and keys as those of the key managers. */
export const keyEncryptionSchema = z.strictObject({
  aws_kms: awsKms.optional(),
  hashicorp_vault: hashicorpVault.optional(),
  pkcs11: z.strictObject({ ...tokenKeys, key_label: text }).optional()
}).refine(
  config => Object.values(config).filter(one => one !== undefined).length === 1, 'must name one of aws_kms, hashicorp_vault and pkcs11'
)

export interface KeyEncryptionHost { readonly trustDomain: TrustDomain, readonly clock: Clock, readonly log: Logger }

/** Nobody is asked yet. @throws {SpiffeError} `config_invalid`, `file_unusable` */
export async function openKeyEncryption (
  { aws_kms: aws, hashicorp_vault: vault, pkcs11 }: z.output<typeof keyEncryptionSchema>, { trustDomain, clock, log }: KeyEncryptionHost
): Promise<KeyEncryptionService> {
  if (aws !== undefined) {
    const { region, key_id: keyId, access_key_id: accessKeyId, secret_access_key: secretAccessKey, endpoint } = aws
    const kms = await import('@aws-sdk/client-kms')
    const client = new kms.KMSClient(await awsClientOptions({ region, endpoint, accessKeyId, secretAccessKey }))
    return new AwsKmsEncryption(client, kms, { keyId, trustDomain })
  }
  if (vault !== undefined) {
    const session = await openVault(vault, { codes: vaultKeyCodes, clock, log })
    return new VaultEncryption(session, transitPathOf(vault), vault.key_name)
  }
  if (pkcs11 === undefined) throw new TypeError('no key-encryption key')
  return new Pkcs11Encryption(await openTokenOf(pkcs11), pkcs11.key_label)
}
