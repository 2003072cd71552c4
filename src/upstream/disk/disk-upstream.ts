import type { MintedX509Ca, UpstreamAuthority, UpstreamTrust, X509CaOrder } from '../../ca/upstream-authority.ts'
import { mintBelow } from '../held-ca.ts'
import type { UpstreamHost } from '../upstream-plugin.ts'
import { watchRoots } from '../watch-roots.ts'
import { readUpstreamFiles, type UpstreamFiles } from './read-upstream-files.ts'

/** A CA in files. They are read at each order, so that new ones count from then on; new roots are published as soon as they are there. */
export class DiskUpstream implements UpstreamAuthority {
  readonly #files: UpstreamFiles
  readonly #host: UpstreamHost

  constructor (files: UpstreamFiles, host: UpstreamHost) {
    this.#files = files
    this.#host = host
  }

  async mintX509Ca (order: X509CaOrder): Promise<MintedX509Ca> {
    return await mintBelow(await readUpstreamFiles(this.#files), order, this.#host, this.#files.certificate)
  }

  watch (signal: AbortSignal): AsyncGenerator<UpstreamTrust> {
    return watchRoots(async () => (await readUpstreamFiles(this.#files)).roots, this.#host, signal)
  }

  async [Symbol.asyncDispose] (): Promise<void> {}
}
