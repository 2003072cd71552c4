import { awsFailureOf, type AwsFailureKind } from '../aws/aws-failure.ts'
import { SpiffeError, type ErrorCode } from '../spiffe/errors.ts'

const codes: Readonly<Record<AwsFailureKind, ErrorCode>> = {
  throttled: 'upstream_unavailable', unreachable: 'upstream_unavailable', failed: 'upstream_unavailable',
  gone: 'upstream_refused', refused: 'upstream_refused', rejected: 'upstream_refused', malformed: 'upstream_invalid'
}

/** What AWS's exceptions mean to whoever wants a CA signed. @param what e.g. `aws pca does not issue` */
export function refusalOfAws (error: unknown, what: string): SpiffeError {
  const { kind, said } = awsFailureOf(error)
  return new SpiffeError(codes[kind], `${what}: ${said}`)
}
