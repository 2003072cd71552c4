import type { Bundle } from '../../spiffe/bundle.ts'

/** One place outside that is told of the trust domain's own bundle. */
export interface BundlePlace {
  /** For logs, e.g. `ConfigMap assay-node/assay-bundle of cluster east`. */
  readonly name: string
  /** Idempotent. @throws {SpiffeError} what stands in the way; the same call may succeed later */
  publish (bundle: Bundle, signal: AbortSignal): Promise<void>
}

/** SPIRE's plugin type `BundlePublisher`. */
export interface BundlePublisher extends AsyncDisposable {
  readonly places: readonly BundlePlace[]
}
