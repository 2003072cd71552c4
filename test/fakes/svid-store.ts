import type { StorableSvid, SvidStore } from '../../src/plugins/svid-store.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'

/** A store in memory, by the values of selectors, that can fail. */
export class FakeSvidStore implements SvidStore {
  readonly name: string
  readonly held = new Map<string, StorableSvid>()
  /** `put PLACE` and `delete PLACE`, in order, with those that failed. */
  readonly calls: string[] = []
  failure: SpiffeError | undefined

  constructor (name = 'vaultlike') { this.name = name }

  async putX509Svid (stored: StorableSvid): Promise<void> {
    this.#call(`put ${stored.metadata.join(' ')}`)
    this.held.set(stored.metadata.join(' '), stored)
  }

  async deleteX509Svid (metadata: readonly string[]): Promise<void> {
    this.#call(`delete ${metadata.join(' ')}`)
    this.held.delete(metadata.join(' '))
  }

  async [Symbol.asyncDispose] (): Promise<void> {}

  #call (call: string): void {
    this.calls.push(call)
    if (this.failure !== undefined) throw this.failure
  }
}
