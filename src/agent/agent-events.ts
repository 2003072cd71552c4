import type { Took } from '../runtime/took.ts'

/** What an agent's life tells those who count. */
export interface AgentEvents {
  /** First, or after it was of no use any more. @param attestor of the node */
  readonly attested: (attestor: string, took: Took) => void
  /** Its own SVID was replaced in time: signed anew, or by attesting again. */
  readonly renewed: (how: 'signed' | 'attested', took: Took) => void
  /** Entries and bundles came from a server: a step that it pushed, or a round of polling; or they could not be had. */
  readonly synced: (took: Took) => void
  /** A server signed a batch of X509-SVIDs. */
  readonly signed: (took: Took) => void
}
