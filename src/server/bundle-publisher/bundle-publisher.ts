import type { Bundle } from '../../spiffe/bundle.ts'

/** The trust domain's own bundle, and how what says so can be proved to be its own. */
export interface OwnBundleNow {
  readonly bundle: Bundle
  /**
   * A JWS with the newest bundle (ADR 0027).
   * @throws {SpiffeError} `jwt_disabled`, `key_service_*`
   */
  readonly sign: (ttlSeconds: number) => Promise<string>
}

/** One place outside that is told of the trust domain's own bundle. */
export interface BundlePlace {
  /** For logs, e.g. `ConfigMap assay-node/assay-bundle of cluster east`. */
  readonly name: string
  /** Whether each server has one of its own; else only the one that does the chores writes it. */
  readonly isOfEachServer?: boolean
  /** Milliseconds after which it is written though nothing has changed: somebody else may have removed it, and what is signed ends. */
  readonly againMs?: number
  /** Idempotent. @throws {SpiffeError} what stands in the way; the same call may succeed later */
  publish (now: OwnBundleNow, signal: AbortSignal): Promise<void>
}

/** SPIRE's plugin type `BundlePublisher`. */
export interface BundlePublisher extends AsyncDisposable {
  readonly places: readonly BundlePlace[]
}
