import type { Selector } from '../../spiffe/selector.ts'

/** How somebody else names a pod: by name, by UID, or by both, which must then agree (BRK-12). */
export type PodReference =
  | { readonly namespace: string, readonly name: string, readonly uid?: string | undefined }
  | { readonly namespace?: undefined, readonly name?: undefined, readonly uid: string }

export interface ReferencedPod {
  readonly uid: string
  /** Of the pod; a reference names none of its containers. */
  readonly selectors: readonly Selector[]
}

/** Finds pods of this node. */
export interface PodFinder {
  /**
   * @returns `undefined`: there is no such pod on this node, or it has come to its end
   * @throws {SpiffeError} `workload_attestation_failed`
   */
  find (reference: PodReference, signal: AbortSignal): Promise<ReferencedPod | undefined>
}
