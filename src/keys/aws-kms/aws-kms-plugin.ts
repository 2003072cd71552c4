import { z } from 'zod'
import { awsClientOptions, awsEndpoint, awsRegion } from '../../aws/aws-client.ts'
import type { Plugin } from '../../plugins/plugin.ts'
import { text } from '../../runtime/config-schema.ts'
import { readTextFile } from '../../plugins/text-file.ts'
import type { KeyManager } from '../key-manager.ts'
import { checkIdentifierConfig, keyIdentifier, keyIdentifierKeys } from '../remote/key-identifier.ts'
import { RemoteKeyManager } from '../remote/remote-key-manager.ts'
import type { RemoteKeysHost } from '../remote/remote-keys-host.ts'
import { AwsKmsKeyService } from './aws-kms-key-service.ts'

const schema = z.strictObject({
  ...keyIdentifierKeys,
  region: awsRegion,
  access_key_id: text.optional(),
  secret_access_key: text.optional(),
  endpoint: awsEndpoint.optional(),
  key_policy_file: text.optional(),
  key_tags: z.record(text, z.string()).default({}),
  // Nothing is discovered: the database says which keys there are.
  enable_tag_based_key_discovery: z.boolean().default(false)
}).refine(checkIdentifierConfig, 'must set one of key_identifier_file and key_identifier_value, or neither').refine(
  config => (config.access_key_id === undefined) === (config.secret_access_key === undefined),
  'must set both of access_key_id and secret_access_key, or neither'
)

/**
 * Keys in AWS KMS. The names are SPIRE's, `endpoint` apart. Credentials that are not given come from where AWS's programs have theirs:
 * environment, files, the instance's or the pod's role.
 */
export const awsKmsKeyManagerPlugin: Plugin<KeyManager, z.output<typeof schema>, RemoteKeysHost> = {
  name: 'aws_kms',
  config: schema,
  async start (config, { sharedKeys, trustDomain, clock, log }) {
    const policy = config.key_policy_file === undefined ? undefined : await readTextFile(config.key_policy_file)
    const identifier = await keyIdentifier(config, trustDomain)
    // Loaded by those who use it: a quarter of a second.
    const kms = await import('@aws-sdk/client-kms')
    const { region, endpoint, access_key_id: accessKeyId, secret_access_key: secretAccessKey } = config
    const client = new kms.KMSClient(await awsClientOptions({ region, endpoint, accessKeyId, secretAccessKey }))
    const service = new AwsKmsKeyService(client, kms, { trustDomain, identifier, tags: config.key_tags, policy })
    return await RemoteKeyManager.open(service, sharedKeys, { identifier, clock, log })
  }
}
