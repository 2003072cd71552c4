import type { Selector } from '../../spiffe/selector.ts'

/** A workload that somebody else named: found, attested, and followed until it ends. Disposing ends that. */
export interface FollowedWorkload extends Disposable {
  readonly selectors: readonly Selector[]
  /** Aborts with a SpiffeError `workload_not_found` soon after the workload has ended, or is another one. */
  readonly ended: AbortSignal
  /** The same, now. @throws {SpiffeError} `workload_not_found` */
  check (): void
}
