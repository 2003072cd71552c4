/**
 * One way to do a job that configuration chooses by name: a key manager, an attestor.
 * `Host` is what the process offers to plugins of this type, e.g. a logger.
 */
export interface Plugin<Api extends AsyncDisposable, Config, Host> {
  /** Configuration key and selector type, e.g. `x509pop`; SPIRE's name where SPIRE has the plugin. */
  readonly name: string
  /**
   * Reads `plugin_data`; no I/O, so that configuration can be checked without starting anything.
   * @throws {SpiffeError} `config_invalid`, naming the key at fault
   */
  parseConfig (raw: unknown): Config
  /** The signal aborts a start that takes too long; a started plugin ends by being disposed. */
  start (config: Config, host: Host, signal: AbortSignal): Promise<Api>
}
