import { SpiffeError } from '../../spiffe/errors.ts'
import type { PolicySet } from './policy-set.ts'

/**
 * Refuses relationships with other trust domains where nobody says which one is our own: nobody would be of another, and no scope would
 * keep anybody out.
 * @throws {SpiffeError} `policy_unsupported`
 */
export function requireTrustDomain (set: PolicySet): PolicySet {
  const [scope] = set.scopes
  if (scope === undefined || set.trustDomain !== undefined) return set
  throw new SpiffeError('policy_unsupported', `the FederationScope of ${scope.trustDomain} would keep nobody out, since nothing says ` +
    'which trust domain is your own: add a document of kind Settings with it')
}
