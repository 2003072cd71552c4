import { serverIdOf } from '../spiffe/member-id.ts'
import { parseTrustDomain } from '../spiffe/trust-domain.ts'
import type { Entry } from '../wire/generated/types.ts'
import { spiffeIdText } from '../wire/spiffe-id-codec.ts'

/** Selectors that our agents find of workloads, and our node attestors of nodes. */
export const workloadTypes: ReadonlySet<string> = new Set(['unix', 'k8s', 'systemd', 'docker'])
export const nodeTypes: ReadonlySet<string> = new Set(['x509pop', 'k8s_psat', 'sshpop', 'http_challenge', 'join_token', 'spiffe_id'])

/** Why no agent of ours would serve an entry as SPIRE's do; `undefined`: it would. */
export function unservable (entry: Entry): string | undefined {
  if (entry.storeSvid) return 'its SVID goes to a store (store_svid), which our agents have only as a program of its own'
  const isAlias = spiffeIdText(entry.parentId) === serverIdOf(parseTrustDomain(entry.parentId?.trustDomain ?? ''))
  const known = isAlias ? nodeTypes : workloadTypes
  const foreign = [...new Set(entry.selectors.map(({ type }) => type).filter(type => !known.has(type)))]
  // Below an alias of a nested server or by a node's own ID an entry may have a node's selectors.
  const unknown = foreign.filter(type => !nodeTypes.has(type))
  return unknown.length === 0 ? undefined : `no attestor of ours finds selectors of the type ${unknown.join(', ')}`
}
