import { z } from 'zod'
import { awsEndpoint, awsRegion, roleArn } from '../../aws/aws-client.ts'
import { durationSeconds, text, wholeSeconds } from '../../runtime/config-schema.ts'
import { signedBundleLimits } from '../signed-bundle/signed-bundle.ts'
import type { PlaceConfig } from './publication-place.ts'

/** Where the own bundle is put, and in which form. */
export interface PublicationConfig {
  /** A JWS of this trust domain's own (ADR 0027), or the SPIFFE document as the endpoint serves it. */
  readonly format: 'signed' | 'spiffe'
  /** How long partners take what is signed. */
  readonly ttlSeconds: number
  /** Between one and the next where nothing has changed. */
  readonly everyMs: number
  readonly place: PlaceConfig
}

const mostPlaces = 16

/** SPIRE's keys of its publisher `aws_s3`, and `assume_role_arn`. */
const awsS3 = z.strictObject({
  region: awsRegion,
  bucket: z.string().regex(/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, 'must be the name of a bucket'),
  object_key: z.string().regex(/^[^/\p{Cc}][^\p{Cc}]{0,1023}$/u, 'must be 1 to 1024 characters, without a slash in front'),
  access_key_id: text.optional(),
  secret_access_key: text.optional(),
  assume_role_arn: roleArn.optional(),
  endpoint: awsEndpoint.optional()
}).refine(
  config => (config.access_key_id === undefined) === (config.secret_access_key === undefined),
  'must set both of access_key_id and secret_access_key, or neither'
)

const publication = z.strictObject({
  file_path: text.optional(),
  aws_s3: awsS3.optional(),
  format: z.enum(['signed', 'spiffe']).default('signed'),
  ttl: wholeSeconds.default(signedBundleLimits.usualTtlSeconds),
  interval: durationSeconds(1_000).default(600)
}).transform((value, context): PublicationConfig => {
  const { file_path: path, aws_s3: s3, format, ttl: ttlSeconds, interval } = value
  const refuse = (message: string, path: string[] = []) => {
    context.issues.push({ code: 'custom', path, message, input: undefined })
    return z.NEVER
  }
  if ((path === undefined) === (s3 === undefined)) return refuse('must have one of file_path and aws_s3')
  if (ttlSeconds > signedBundleLimits.mostTtlSeconds) return refuse('must be 168h at most', ['ttl'])
  if (interval * 2 > ttlSeconds) {
    return refuse('must be at most half of ttl: one that fails must not leave an expired bundle there', ['interval'])
  }
  const common = { format, ttlSeconds, everyMs: interval * 1_000 }
  if (s3 === undefined) return { ...common, place: { kind: 'file', path: path as string } }
  const { region, bucket, object_key: key, access_key_id: accessKeyId, secret_access_key: secretAccessKey, endpoint } = s3
  const access = { region, accessKeyId, secretAccessKey, endpoint, assumeRoleArn: s3.assume_role_arn }
  return { ...common, place: { kind: 's3', access, object: { bucket, key } } }
})

/** One place or several. */
export const publications = z.preprocess(raw => Array.isArray(raw) ? raw : [raw],
  z.array(publication).max(mostPlaces, `must be at most ${mostPlaces}`))
