import { z } from 'zod'
import { awsClientOptions, awsRegion, roleArn } from '../../aws/aws-client.ts'
import { text } from '../../runtime/config-schema.ts'
import type { UpstreamPlugin } from '../upstream-plugin.ts'
import { AwsSecretUpstream } from './awssecret-upstream.ts'

/** A name is taken as well, as Secrets Manager and SPIRE do. */
const secret = text.max(2_048, 'must be 2048 characters at most').regex(/^[\w/+=.@:-]+$/, 'must be the ARN or the name of a secret')

const schema = z.strictObject({
  region: awsRegion,
  cert_file_arn: secret,
  key_file_arn: secret,
  bundle_file_arn: secret.optional(),
  access_key_id: text.optional(),
  secret_access_key: text.optional(),
  // The first is SPIRE's.
  secret_token: text.optional(),
  security_token: text.optional(),
  assume_role_arn: roleArn.optional()
}).check(({ value, issues }) => {
  const refuse = (key: string, message: string) => issues.push({ code: 'custom', path: [key], message, input: undefined })
  for (const key of ['cert_file_arn', 'key_file_arn', 'bundle_file_arn'] as const) {
    const [arn, , , region] = value[key]?.split(':') ?? []
    if (arn === 'arn' && region !== value.region) refuse(key, 'must be in the region that region names')
  }
  if (value.cert_file_arn === value.key_file_arn) refuse('key_file_arn', 'must be another secret than the certificate\'s')
  if ((value.access_key_id === undefined) !== (value.secret_access_key === undefined)) {
    refuse('access_key_id', 'must be set with secret_access_key, or neither')
  }
  if (value.secret_token !== undefined && value.security_token !== undefined) {
    refuse('security_token', 'must not be set beside secret_token')
  }
  if ((value.secret_token ?? value.security_token) !== undefined && value.access_key_id === undefined) {
    refuse('secret_token', 'must be set with access_key_id and secret_access_key')
  }
})

/** A CA in AWS Secrets Manager, with SPIRE's keys (spire-surface §7.4). AWS need not be there when this server starts with a CA at hand. */
export const awsSecretUpstreamPlugin: UpstreamPlugin<z.output<typeof schema>> = {
  name: 'awssecret',
  config: schema,
  async start (config, host) {
    // Loaded by those who use it.
    const secrets = await import('@aws-sdk/client-secrets-manager')
    const client = new secrets.SecretsManagerClient(await awsClientOptions({
      region: config.region, accessKeyId: config.access_key_id, secretAccessKey: config.secret_access_key,
      sessionToken: config.secret_token ?? config.security_token, assumeRoleArn: config.assume_role_arn
    }))
    const names = { certificate: config.cert_file_arn, key: config.key_file_arn, bundle: config.bundle_file_arn }
    return new AwsSecretUpstream(client, secrets, names, host)
  }
}
