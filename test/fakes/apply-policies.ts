import type { Channel } from '../../src/rpc/channel.ts'
import type { PolicyDocumentText } from '../../src/spiffe/policy-version.ts'
import { policyService, type ApplyPoliciesRequestInit, type PolicyChange } from '../../src/wire/generated/policy.ts'
import { documentPages } from '../../src/wire/policy-codec.ts'

/** Applies texts, which get names of their own, in place of a version. */
export async function applyPolicies (
  channel: Channel, texts: readonly string[] | readonly PolicyDocumentText[], options: Omit<ApplyPoliciesRequestInit, 'documents'> = {}
): Promise<PolicyChange> {
  const named = texts.map((text, index) => typeof text === 'string' ? { name: `${index}.yaml`, text } : text)
  async function * requests (): AsyncGenerator<ApplyPoliciesRequestInit> {
    yield options
    for (const documents of documentPages(named)) yield { documents }
  }
  return await channel.client(policyService).applyPolicies(requests())
}
