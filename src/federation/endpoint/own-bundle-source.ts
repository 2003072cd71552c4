import type { Bundle } from '../../spiffe/bundle.ts'

/** The trust domain's own bundle, as it is published. */
export interface OwnBundleSource {
  /** The newest (FED-17), the same object as long as nothing changes; undefined when it is not known yet. */
  readonly value: Bundle | undefined
}
