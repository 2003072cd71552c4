/** What happens on the SDS streams of one agent, for convergence, logs and metrics. */
export interface SdsEvents {
  /** Envoy applied this version of this resource. `version` is what the stream calls it: a content hash (delta) or a counter (SotW). */
  acknowledged (event: SdsDelivery): void
  /** Envoy refused it and keeps what it had. */
  refused (event: SdsDelivery & { readonly message: string }): void
  /** A resource was held back because Envoy would refuse it or, worse, end. */
  heldBack (event: { readonly node: string, readonly name: string, readonly reason: string }): void
}

export interface SdsDelivery {
  /** `node.id` as Envoy gave it; empty if it gave none. */
  readonly node: string
  /** Absent when Envoy refused a whole answer and did not say which part. */
  readonly name: string | undefined
  /** `undefined`: its removal. */
  readonly version: string | undefined
}

export interface SdsMetrics {
  /** +1 when a stream opens, -1 when it ends. */
  streams (kind: SdsKind, change: 1 | -1): void
  pushed (kind: SdsKind): void
  acknowledged (kind: SdsKind): void
  refused (kind: SdsKind): void
}

export type SdsKind = 'sotw' | 'delta' | 'fetch'
