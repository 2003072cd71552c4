import { directoryOf, parseEntries, type RegisteredEntry } from '../../authz/lint/registered-entries.ts'
import { foreignKinds } from '../../authz/policy/foreign-kinds.ts'
import type { PolicySet } from '../../authz/policy/policy-set.ts'
import { readPolicies, type PolicyText } from '../../authz/policy/read-policies.ts'
import { resolveSelectors } from '../../authz/policy/resolve-selectors.ts'
import { requireTrustDomain } from '../../authz/policy/require-trust-domain.ts'
import { namedByPath, readPolicyFiles } from '../../authz/policy-files/read-policy-files.ts'
import { pathFlag } from '../flag.ts'
import { readInputJson } from '../read-input.ts'
import type { Terminal } from '../terminal.ts'

export const entriesFlag = pathFlag('who is registered: the output of `assay entry show -output json`')

export interface LoadedPolicies {
  readonly texts: readonly PolicyText[]
  readonly set: PolicySet
  readonly entries: readonly RegisteredEntry[] | undefined
}

/** @throws {SpiffeError} `file_unusable`, `policy_malformed` */
export async function loadPolicies (paths: readonly string[], entriesPath: string | undefined,
  terminal: Terminal): Promise<LoadedPolicies> {
  const texts = namedByPath(await readPolicyFiles(paths))
  const entries = entriesPath === undefined ? undefined : parseEntries(entriesPath, await readInputJson(entriesPath, terminal))
  return { texts, set: readPolicies(texts, { foreign: foreignKinds }), entries }
}

/** What decides. @throws as `loadPolicies`; `policy_unsupported` for selectors without `-entries` */
export async function loadDecidingSet (paths: readonly string[], entriesPath: string | undefined, terminal: Terminal): Promise<PolicySet> {
  return decidingSetOf(await loadPolicies(paths, entriesPath, terminal))
}

/** @throws {SpiffeError} `policy_unsupported` for selectors where nobody knows who is registered; as `requireTrustDomain` */
export function decidingSetOf ({ set, entries }: Pick<LoadedPolicies, 'set' | 'entries'>): PolicySet {
  return resolveSelectors(requireTrustDomain(set), entries === undefined ? undefined : directoryOf(entries))
}
