import type { SignatureV4 } from '@smithy/signature-v4'
import { awsClientOptions, type AwsAccess } from './aws-client.ts'

/** Signs requests to one service as the SDK does, with the credentials that it finds. */
export interface RequestSigner {
  readonly signer: SignatureV4
  readonly close: () => void
}

/** @param service its name in signatures @param escapesPath whether what is signed is the path escaped once more: of all services but S3 */
export async function openRequestSigner (access: AwsAccess, service: string, escapesPath: boolean): Promise<RequestSigner> {
  // Loaded by those who use it. No client is asked for anything here but how it finds credentials.
  const [{ STSClient }, { SignatureV4 }] = await Promise.all([import('@aws-sdk/client-sts'), import('@smithy/signature-v4')])
  const { endpoint: _, ...options } = await awsClientOptions(access)
  const sts = new STSClient(options)
  const { credentials, sha256 } = sts.config
  const signer = new SignatureV4({ service, region: access.region, credentials, sha256, uriEscapePath: escapesPath })
  return { signer, close: () => { sts.destroy() } }
}
