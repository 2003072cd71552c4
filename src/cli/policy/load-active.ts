import { foreignKinds } from '../../authz/policy/foreign-kinds.ts'
import type { RegisteredEntry } from '../../authz/lint/registered-entries.ts'
import { readPolicySet } from '../../authz/policy/read-policy-set.ts'
import type { Channel } from '../../rpc/channel.ts'
import { spiffeIdOf } from '../../spiffe/spiffe-id.ts'
import { parseTrustDomain } from '../../spiffe/trust-domain.ts'
import type { Entry } from '../../wire/generated/types.ts'
import { withServer } from '../channel-call.ts'
import { getStatus } from '../cluster/cluster-client.ts'
import { allPages, pageSize } from '../paged.ts'
import type { Terminal } from '../terminal.ts'
import type { LoadedPolicies } from './load-policies.ts'
import { getPolicies } from './policy-calls.ts'

interface ActiveCall {
  readonly flags: { readonly socketPath: string | undefined, readonly instance: string | undefined }
  readonly terminal: Terminal
}

/**
 * The policies that are active on the server, and who is registered there.
 * @throws {SpiffeError} `policy_version_not_found` before the first `apply`; `server_unreachable`
 */
export async function loadActive (call: ActiveCall): Promise<LoadedPolicies & { readonly entries: readonly RegisteredEntry[] }> {
  const { signal } = call.terminal
  return await withServer(call, async channel => {
    const [{ trustDomain }, { documents }] = await Promise.all([getStatus(channel, { signal }), getPolicies(channel, 0, signal)])
    const set = readPolicySet(documents, { trustDomain: parseTrustDomain(trustDomain), foreign: foreignKinds })
    return { texts: documents, set, entries: await registeredAt(channel, call.terminal) }
  })
}

async function registeredAt (channel: Channel, terminal: Terminal): Promise<readonly RegisteredEntry[]> {
  const { entryService } = await import('../../wire/generated/server-entry.ts')
  const client = channel.client(entryService)
  const entries = await allPages(terminal, 'entries', async pageToken => {
    const { entries: items, nextPageToken } = await client.listEntries({ pageSize, pageToken }, { signal: terminal.signal })
    return { items, nextPageToken }
  })
  return entries.flatMap(registeredOf)
}

function registeredOf ({ spiffeId, selectors }: Entry): RegisteredEntry[] {
  if (spiffeId === undefined) return []
  return [{
    id: spiffeIdOf(parseTrustDomain(spiffeId.trustDomain), spiffeId.path),
    selectors: new Set(selectors.map(({ type, value }) => `${type}:${value}`))
  }]
}
