import type { Selector } from '../../spiffe/selector.ts'
import type { SpiffeId } from '../../spiffe/spiffe-id.ts'

/** Whether a broker may be given what a pod is: as the pod's own cluster, or the attestor's configuration, has it. */
export interface PodAccess {
  /**
   * @param selectors of the workload that the broker named; of one in no pod nothing is asked
   * @throws {SpiffeError} `reference_not_allowed`; `kubernetes_unreachable`: nobody says that it may
   */
  review (broker: SpiffeId, selectors: readonly Selector[], signal: AbortSignal): Promise<void>
}
