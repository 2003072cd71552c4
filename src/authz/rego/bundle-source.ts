/** Where bundles come from. */
export interface BundleSource {
  /** How long to wait before asking again, in milliseconds; drawn anew each time where it varies. */
  nextPollMs (): number
  /**
   * @returns `undefined`: what was last accepted is still the newest
   * @throws {SpiffeError} `rego_bundle_unavailable`, or why it cannot be built
   */
  poll (signal: AbortSignal): Promise<OfferedBundle | undefined>
  /** The last one accepted in an earlier life, for a start without whoever offers them. */
  restore?(): Promise<Uint8Array | undefined>
}

export interface OfferedBundle {
  /** A gzipped tar archive. */
  readonly bytes: Uint8Array
  /** To be called once it is in use. */
  accept (): Promise<void>
}
