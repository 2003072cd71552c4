import { checkPolicyTexts, policyLimits, type PolicyDocumentText } from '../../spiffe/policy-version.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { PolicySet } from './policy-set.ts'
import { readPolicies, type ForeignDocuments } from './read-policies.ts'
import { selectorsIn } from './resolve-selectors.ts'

export interface TrustDomainPolicies {
  readonly trustDomain: TrustDomain
  /** Kinds of documents besides Assay's own. */
  readonly foreign: readonly ForeignDocuments[]
}

/**
 * Reads the policies of a trust domain, as its servers and agents keep them: all of them, or none. Without Settings among the documents
 * what no `allow` rule is about is refused.
 * @throws {SpiffeError} `policy_malformed`
 */
export function readPolicySet (texts: readonly PolicyDocumentText[], { trustDomain, foreign }: TrustDomainPolicies): PolicySet {
  checkPolicyTexts(texts)
  const set = readPolicies(texts, { settings: { trustDomain, trustDomainAliases: [], defaultAction: 'deny' }, foreign })
  if (set.trustDomain !== trustDomain) {
    throw new SpiffeError('policy_malformed', `the Settings are of trust domain ${set.trustDomain}, and this is ${trustDomain}`)
  }
  const absent = set.bundles.find(({ archive }) => archive === undefined)
  if (absent !== undefined) {
    throw new SpiffeError('policy_malformed', `RegoBundle ${absent.name} names a file, which \`assay policy apply\` has to put in`)
  }
  const lists = selectorsIn(set.rules).length
  if (lists > policyLimits.selectorLists) {
    const most = policyLimits.selectorLists
    throw new SpiffeError('policy_malformed', `the rules name ${lists} different lists of selectors, at most ${most} are allowed`)
  }
  return set
}
