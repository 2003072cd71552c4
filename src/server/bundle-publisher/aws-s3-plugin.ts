import { z } from 'zod'
import { awsEndpoint, awsRegion, roleArn } from '../../aws/aws-client.ts'
import { awsFailureOf } from '../../aws/aws-failure.ts'
import { S3Object } from '../../aws/s3-object.ts'
import type { Plugin } from '../../plugins/plugin.ts'
import { text } from '../../runtime/config-schema.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { checkRenewal, formatOwnBundle, renewalKeys } from './bundle-format.ts'
import type { BundlePublisher, OwnBundleNow } from './bundle-publisher.ts'

/** Of one attempt. */
const timeoutMs = 30_000

const schema = z.strictObject({
  region: awsRegion,
  bucket: z.string().regex(/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, 'must be the name of a bucket'),
  object_key: z.string().regex(/^[^/\p{Cc}][^\p{Cc}]{0,1023}$/u, 'must be 1 to 1024 characters, without a slash in front'),
  access_key_id: text.optional(),
  secret_access_key: text.optional(),
  assume_role_arn: roleArn.optional(),
  endpoint: awsEndpoint.optional(),
  ...renewalKeys
}).check(({ value, issues }) => {
  const refuse = (key: string, message: string) => issues.push({ code: 'custom', path: [key], message, input: undefined })
  checkRenewal(value, refuse)
  if ((value.access_key_id === undefined) !== (value.secret_access_key === undefined)) {
    refuse('access_key_id', 'must be set with secret_access_key, or neither')
  }
})

/** SPIRE's `aws_s3`: the trust domain's bundle in an object of S3, or of a store like it. Nobody is asked when it starts. */
export const awsS3PublisherPlugin: Plugin<BundlePublisher, z.output<typeof schema>, unknown> = {
  name: 'aws_s3',
  config: schema,
  async start ({ region, bucket, object_key: key, endpoint, format, refresh_hint: refreshHintSeconds, ttl: ttlSeconds, ...config }) {
    const { access_key_id: accessKeyId, secret_access_key: secretAccessKey, assume_role_arn: assumeRoleArn } = config
    const object = await S3Object.open({ region, endpoint, accessKeyId, secretAccessKey, assumeRoleArn }, { bucket, key })
    const name = `s3://${bucket}/${key}`
    const place = {
      name, againMs: config.interval * 1_000,
      publish: async (now: OwnBundleNow, signal: AbortSignal) => {
        const { text, contentType } = await formatOwnBundle(now, { format, refreshHintSeconds, ttlSeconds })
        try {
          await object.put(text, contentType, AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]))
        } catch (error) {
          signal.throwIfAborted()
          // It is no cause: it may hold the request, and with it a signature.
          throw new SpiffeError('bundle_unpublished', `${name}: ${awsFailureOf(error).said}`)
        }
      }
    }
    return { places: [place], [Symbol.asyncDispose]: () => object[Symbol.asyncDispose]() }
  }
}
