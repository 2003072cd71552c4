import { z } from 'zod'
import { text } from '../runtime/config-schema.ts'

/** Which region is asked, and with whose credentials; without any they come from where AWS's programs have theirs. */
export interface AwsAccess {
  readonly region: string
  /** In place of the region's. */
  readonly endpoint?: string | undefined
  readonly accessKeyId?: string | undefined
  /** Secret. */
  readonly secretAccessKey?: string | undefined
  /** Secret; of credentials that are not for good. */
  readonly sessionToken?: string | undefined
  /** ARN of a role that is taken on with these credentials; its own are what calls are made with. */
  readonly assumeRoleArn?: string | undefined
}

export const awsRegion = text.regex(/^[a-z0-9-]+$/, 'must be a region such as eu-central-1')
export const awsEndpoint = z.url({ protocol: /^https?$/, error: 'must be a URL' })
export const roleArn = text.regex(/^arn:[a-z-]+:iam::\d{12}:role\/[\w+=,.@/-]+$/, 'must be the ARN of a role')

const connectionTimeoutMs = 5_000
/** AWS's own default; roles may allow less, never less than 15 minutes. */
const roleSeconds = 3_600

/** What clients of all services are made with. Calls are made once, until their signal aborts: who calls knows what may be repeated. */
export async function awsClientOptions (access: AwsAccess) {
  const { endpoint, assumeRoleArn } = access
  const base = baseOptions(access)
  return {
    ...base,
    ...endpoint === undefined ? {} : { endpoint },
    ...assumeRoleArn === undefined ? {} : { credentials: await assumedRole(base, assumeRoleArn) }
  }
}

function baseOptions ({ region, accessKeyId, secretAccessKey, sessionToken }: AwsAccess) {
  const given = accessKeyId === undefined || secretAccessKey === undefined
    ? undefined
    : { accessKeyId, secretAccessKey, ...sessionToken === undefined ? {} : { sessionToken } }
  return {
    region,
    maxAttempts: 1,
    requestHandler: { connectionTimeout: connectionTimeoutMs, httpsAgent: { maxSockets: 64 } },
    ...given === undefined ? {} : { credentials: given }
  }
}

/** Credentials of a role, for an hour at a time: the client asks again when they are about to end. */
async function assumedRole (base: ReturnType<typeof baseOptions>, RoleArn: string) {
  const { STSClient, AssumeRoleCommand } = await import('@aws-sdk/client-sts')
  return async () => {
    const sts = new STSClient(base)
    const question = new AssumeRoleCommand({ RoleArn, RoleSessionName: 'assay', DurationSeconds: roleSeconds })
    const { Credentials: given } = await sts.send(question).finally(() => { sts.destroy() })
    const { AccessKeyId: accessKeyId, SecretAccessKey: secretAccessKey, SessionToken: sessionToken, Expiration: expiration } = given ?? {}
    if (accessKeyId === undefined || secretAccessKey === undefined || sessionToken === undefined || expiration === undefined) {
      throw Object.assign(new Error(`no credentials of ${RoleArn}`), { name: 'CredentialsProviderError' })
    }
    return { accessKeyId, secretAccessKey, sessionToken, expiration }
  }
}
