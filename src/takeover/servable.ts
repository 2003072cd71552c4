import { serverIdOf } from '../spiffe/member-id.ts'
import { parseTrustDomain } from '../spiffe/trust-domain.ts'
import type { Entry } from '../wire/generated/types.ts'
import { spiffeIdText } from '../wire/spiffe-id-codec.ts'

/** Names of the attestors that we have, which are the types of the selectors that they find. */
export interface Attestors {
  /** Of our agents. */
  readonly workload: ReadonlySet<string>
  /** Of our agents and servers, both. */
  readonly node: ReadonlySet<string>
}

/** Why no agent of ours would serve an entry as SPIRE's do; `undefined`: it would. */
export function unservable (entry: Entry, { workload, node }: Attestors): string | undefined {
  if (entry.storeSvid) return 'its SVID goes to a store (store_svid), which our agents have only as a program of its own'
  const isAlias = spiffeIdText(entry.parentId) === serverIdOf(parseTrustDomain(entry.parentId?.trustDomain ?? ''))
  // Below an alias of a nested server or by a node's own ID an entry may have a node's selectors. `spiffe_id` needs no attestor.
  const isKnown = (type: string) => node.has(type) || type === 'spiffe_id' || !isAlias && workload.has(type)
  const unknown = new Set(entry.selectors.map(({ type }) => type).filter(type => !isKnown(type)))
  return unknown.size === 0 ? undefined : `no attestor of ours finds selectors of the type ${[...unknown].join(', ')}`
}
