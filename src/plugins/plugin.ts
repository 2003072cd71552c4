import type { z } from 'zod'

/**
 * One way to do a job that configuration chooses by name: a key manager, an attestor.
 * `Host` is what the process offers to its plugins, e.g. a logger.
 */
export interface Plugin<Api extends AsyncDisposable, Config, Host> {
  /** Configuration key and selector type, e.g. `x509pop`; SPIRE's name where SPIRE has the plugin. */
  readonly name: string
  /**
   * Reads `plugin_data`; where there is none, an empty map. Strict, so that unknown keys are refused; no I/O, so that a configuration can
   * be checked without starting anything.
   */
  readonly config: z.ZodType<Config>
  /** The signal aborts a start that takes too long; a started plugin ends by being disposed. */
  start (config: Config, host: Host, signal: AbortSignal): Promise<Api>
}
