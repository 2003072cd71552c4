import type { JwtAuthority } from '../spiffe/bundle.ts'

/** Where the keys come from that a provider publishes: a server, an agent, or whoever embeds the provider. */
export interface KeySource {
  /** For the log and for metrics, e.g. `server_api`. */
  readonly name: string
  /**
   * All JWT authorities of one trust domain, each time that the source has said what they are, also when nothing has changed: so it is
   * known that the source is there.
   * @throws whatever keeps the source from answering; who follows it begins anew
   */
  follow (signal: AbortSignal): AsyncIterable<readonly JwtAuthority[]>
}
