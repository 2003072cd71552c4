import { awsFailureOf, type AwsFailureKind } from '../../aws/aws-failure.ts'
import { SpiffeError, type ErrorCode } from '../../spiffe/errors.ts'

const codes: Readonly<Record<AwsFailureKind, ErrorCode>> = {
  gone: 'key_service_key_gone', throttled: 'key_service_throttled', refused: 'key_service_refused', unreachable: 'key_service_unreachable',
  failed: 'key_service_failed', rejected: 'key_service_malformed', malformed: 'key_service_malformed'
}

/** What KMS's exceptions mean to whoever wants something signed. */
export function refusalOfKms (error: unknown, what: string): SpiffeError {
  const { kind, said } = awsFailureOf(error)
  return new SpiffeError(codes[kind], `aws kms does not ${what}: ${said}`)
}
