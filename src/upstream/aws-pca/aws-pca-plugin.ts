import { z } from 'zod'
import { awsEndpoint, awsRegion, roleArn } from '../../aws/aws-client.ts'
import { AwsJsonService } from '../../aws/aws-json-service.ts'
import { text } from '../../runtime/config-schema.ts'
import type { UpstreamPlugin } from '../upstream-plugin.ts'
import { AwsPcaUpstream, readRoots } from './aws-pca-upstream.ts'

const algorithms = [
  'SHA256WITHECDSA', 'SHA384WITHECDSA', 'SHA512WITHECDSA', 'SHA256WITHRSA', 'SHA384WITHRSA', 'SHA512WITHRSA'
] as const
/** What it gives signs leaves and no CA; SPIRE's default. */
const usualTemplate = 'arn:aws:acm-pca:::template/SubordinateCACertificate_PathLen0/V1'

const authorityArn = text.regex(/^arn:[a-z-]+:acm-pca:[a-z0-9-]+:\d{12}:certificate-authority\/[\w-]+$/, 'must be the ARN of a private CA')
const templateArn = text.regex(/^arn:[a-z-]+:acm-pca:::template\/[\w.-]+\/V\d+$/, 'must be the ARN of a template')

const schema = z.strictObject({
  region: awsRegion,
  certificate_authority_arn: authorityArn,
  signing_algorithm: z.enum(algorithms, `must be one of ${algorithms.join(', ')}`).optional(),
  ca_signing_template_arn: templateArn.default(usualTemplate),
  assume_role_arn: roleArn.optional(),
  endpoint: awsEndpoint.optional(),
  supplemental_bundle_path: text.optional()
}).refine(
  ({ region, certificate_authority_arn: arn }) => arn.split(':')[3] === region,
  { path: ['certificate_authority_arn'], error: 'must be in the region that region names' }
)

/** AWS Private CA, with SPIRE's keys (spire-surface §7.4). AWS need not be there when this server starts with a CA at hand. */
export const awsPcaUpstreamPlugin: UpstreamPlugin<z.output<typeof schema>> = {
  name: 'aws_pca',
  config: schema,
  async start (config, host) {
    const { supplemental_bundle_path: supplementalBundlePath, region, endpoint, assume_role_arn: assumeRoleArn } = config
    if (supplementalBundlePath !== undefined) await readRoots(supplementalBundlePath)
    const pca = await AwsJsonService.open({ region, endpoint, assumeRoleArn }, { host: 'acm-pca', target: 'ACMPrivateCA' })
    return new AwsPcaUpstream(pca, {
      authorityArn: config.certificate_authority_arn, templateArn: config.ca_signing_template_arn,
      signingAlgorithm: config.signing_algorithm, supplementalBundlePath
    }, host)
  }
}
