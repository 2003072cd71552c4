import { foreignKinds } from '../../authz/policy/foreign-kinds.ts'
import { namedByPath, type PolicyFile } from '../../authz/policy-files/read-policy-files.ts'
import type { PolicySet } from '../../authz/policy/policy-set.ts'
import { readPolicySet } from '../../authz/policy/read-policy-set.ts'
import type { Channel } from '../../rpc/channel.ts'
import type { PolicyDocumentText } from '../../spiffe/policy-version.ts'
import { parseTrustDomain } from '../../spiffe/trust-domain.ts'
import { policyService, type ApplyPoliciesRequestInit, type PolicyChange, type PolicyVersion } from '../../wire/generated/policy.ts'
import { documentPages, DocumentParts } from '../../wire/policy-codec.ts'
import { getStatus } from '../cluster/cluster-client.ts'
import type { Servers } from '../servers.ts'

const timeoutMs = 60_000

/**
 * Finds every problem here, with the paths of the files.
 * @returns the set, its selectors as they are written
 * @throws {SpiffeError} `policy_malformed`
 */
export async function checkPolicyFiles (files: readonly PolicyFile[], servers: Servers, signal: AbortSignal): Promise<PolicySet> {
  const { trustDomain } = await servers.ask(channel => getStatus(channel, { signal, timeoutMs }))
  return readPolicySet(namedByPath(files), { trustDomain: parseTrustDomain(trustDomain), foreign: foreignKinds })
}

/** The active version's number; 0: none. */
export async function activeNumber (servers: Servers, signal: AbortSignal): Promise<number> {
  const { versions } = await servers.ask(channel => channel.client(policyService).listPolicyVersions({}, { signal, timeoutMs }))
  return Number(versions[0]?.number ?? 0)
}

export async function applyPolicyTexts (
  texts: readonly PolicyDocumentText[], first: Omit<ApplyPoliciesRequestInit, 'documents'>, servers: Servers, signal: AbortSignal
): Promise<PolicyChange> {
  async function * requests (): AsyncGenerator<ApplyPoliciesRequestInit> {
    yield first
    for (const documents of documentPages(texts)) yield { documents }
  }
  return await servers.change(channel => channel.client(policyService).applyPolicies(requests(), { signal, timeoutMs }))
}

export interface StoredPolicies { readonly version: PolicyVersion | undefined, readonly documents: readonly PolicyDocumentText[] }

/** @param version 0: the active one */
export async function getPolicies (channel: Channel, version: number, signal: AbortSignal): Promise<StoredPolicies> {
  const parts = new DocumentParts()
  let found: PolicyVersion | undefined
  for await (const page of channel.client(policyService).getPolicies({ version }, { signal, timeoutMs })) {
    found ??= page.version
    parts.add(page.documents)
  }
  return { version: found, documents: parts.end() }
}
