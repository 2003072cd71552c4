import { describeMatch } from '../../authz/explain/describe-match.ts'
import { foreignKinds } from '../../authz/policy/foreign-kinds.ts'
import { readPolicySet } from '../../authz/policy/read-policy-set.ts'
import type { Channel } from '../../rpc/channel.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import { getPolicies } from '../policy/policy-calls.ts'

/** What a FederationScope lets in, as policies write it. */
export interface ActiveScope {
  /** IDs of the other domain; none: nobody. */
  readonly accept: readonly string[]
  /** Workloads of ours; `undefined`: all. */
  readonly workloads: readonly string[] | undefined
  /** From then on nobody. */
  readonly until: Date | undefined
}

/** What active policies say of another domain: none are active, the caller may not read them, or these. */
export type PolicyFacts = 'none' | 'unreadable' | { readonly version: number, readonly scopes: readonly ActiveScope[] }

/** @param own the trust domain of the server that is asked */
export async function activeScopes (channel: Channel, own: TrustDomain, other: TrustDomain, signal: AbortSignal): Promise<PolicyFacts> {
  try {
    const { version, documents } = await getPolicies(channel, 0, signal)
    const { scopes } = readPolicySet(documents, { trustDomain: own, foreign: foreignKinds })
    return {
      version: Number(version?.number ?? 0),
      scopes: scopes.filter(({ trustDomain }) => trustDomain === other).map(({ accept, workloads, until }) => ({
        accept: accept.map(describeMatch), workloads: workloads?.map(describeMatch), until
      }))
    }
  } catch (error) {
    const { code, status } = error as { readonly code?: string, readonly status?: string }
    // A SPIRE server has no policies.
    if (code === 'policy_version_not_found' || status === 'UNIMPLEMENTED') return 'none'
    if (status === 'PERMISSION_DENIED') return 'unreadable'
    throw error
  }
}
