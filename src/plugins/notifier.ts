import type { Bundle } from '../spiffe/bundle.ts'

/** SPIRE's plugin type `Notifier`: hears of the trust domain's own bundle. One without a method does not want to know. */
export interface Notifier extends AsyncDisposable {
  /** For messages. */
  readonly name: string
  /** Whether the notifiers of all servers tell one place: then only the server that does the chores tells it of changes. */
  readonly isShared?: boolean
  /** Milliseconds after which it is told again though nothing has changed: others may have made what needs the bundle. */
  readonly againMs?: number
  /** Once, as the server starts: what it throws ends the server, as in SPIRE. */
  bundleLoaded? (bundle: Bundle, signal: AbortSignal): Promise<void>
  /**
   * Whenever it has changed. Idempotent: after a failure it is told again, with growing pauses, of what is newest then.
   * @throws {SpiffeError} what stands in the way
   */
  bundleUpdated? (bundle: Bundle, signal: AbortSignal): Promise<void>
}
