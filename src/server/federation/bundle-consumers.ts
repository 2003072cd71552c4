import type { Entry } from '../../spiffe/entry.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'

export interface BundleConsumers {
  readonly count: number
  /** The first few, in the order of their ids. */
  readonly entryIds: readonly string[]
}

const shownConsumers = 5

/**
 * Who is given partners' bundles as they are, and checks by them whatever it likes: a partner's scope is enforced at the node's proxy and
 * by external authorization alone.
 * @param visible whose ids may be told; all count
 */
export function consumersByDomain (
  entries: Iterable<Entry>, visible: (entry: Entry) => boolean = () => true
): ReadonlyMap<TrustDomain, BundleConsumers> {
  const found = new Map<TrustDomain, { count: number, entryIds: string[] }>()
  for (const entry of entries) {
    for (const domain of entry.federatesWith) {
      const consumers = found.get(domain) ?? { count: 0, entryIds: [] }
      consumers.count++
      if (mayJoin(consumers.entryIds, entry.id) && visible(entry)) join(consumers.entryIds, entry.id)
      found.set(domain, consumers)
    }
  }
  return found
}

function mayJoin (ids: readonly string[], id: string): boolean {
  return ids.length < shownConsumers || id < (ids.at(-1) as string)
}

function join (ids: string[], id: string): void {
  ids.push(id)
  ids.sort()
  if (ids.length > shownConsumers) ids.pop()
}
