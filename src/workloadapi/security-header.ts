import type { CallContext } from '../rpc/call.ts'
import { SpiffeError } from '../spiffe/errors.ts'

/**
 * Demands the metadata that no browser or careless proxy can be tricked into sending: exactly one value, exactly `true` (WLE-04, WLE-05).
 * @throws {SpiffeError} `security_header_missing`
 */
export function requireSecurityHeader ({ metadata }: CallContext): void {
  const values = metadata.get('workload.spiffe.io')
  if (values?.length !== 1 || values[0] !== 'true') {
    throw new SpiffeError('security_header_missing', 'security header missing from request', { requirement: 'WLE-05' })
  }
}
