import type { ServiceEndpoint } from '../spiffe/service-endpoint.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'

/** What agents report of their nodes. Each agent has rows of its own, and no report touches another's. */
export interface EndpointStore {
  /**
   * Puts sets in place of what these agents reported before, all in one transaction; only differences are written.
   * @param reports endpoints by the agent that they belong to; an empty set removes
   */
  replace (reports: ReadonlyMap<SpiffeId, readonly ServiceEndpoint[]>): Promise<void>
  /** Every endpoint, read in chunks; what is written meanwhile may or may not be seen. */
  all (): AsyncIterable<ServiceEndpoint>
}
